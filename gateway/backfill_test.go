package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
)

// ledger is a BackfillStore in memory, with one endpoint that is due.
type ledger struct {
	turn    BackfillTurn
	known   []string
	erased  map[string]time.Time
	done    time.Time
	next    time.Duration
	failed  int
	hurried int
	marked  SeatStatus
}

func (l *ledger) TakeBackfills(context.Context, []adapters.Channel, int) ([]BackfillTurn, error) {
	return []BackfillTurn{l.turn}, nil
}

func (l *ledger) DoneBackfill(_ context.Context, _, _ string, upTo time.Time, next time.Duration) error {
	l.done, l.next = upTo, next
	return nil
}

func (l *ledger) FailBackfill(_ context.Context, _, _ string, next time.Duration) error {
	l.failed++
	l.next = next
	return nil
}

func (l *ledger) HurryBackfills(context.Context, []adapters.Channel) error { l.hurried++; return nil }

func (l *ledger) MissingKeys(_ context.Context, _, _ string, _ adapters.Channel, keys []string) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(l.known, k) }), nil
}

func (l *ledger) ErasedSince(context.Context, string, time.Time) (Erasures, error) {
	return func(_ adapters.Channel, id string, at time.Time) bool {
		when, ok := l.erased[id]
		return ok && !at.After(when)
	}, nil
}

func (l *ledger) MarkSeat(_ context.Context, s Seat, _ time.Time) (bool, error) {
	l.marked = s.Status
	return true, nil
}

// logbook is an adapter whose provider keeps a log.
type logbook struct {
	adapters.Adapter
	lines []adapters.Message
	err   error
	since time.Time
}

func (b *logbook) Sweep(ctx context.Context, _ adapters.Endpoint, since time.Time, take func(context.Context, []adapters.Message) error) error {
	b.since = since
	if b.err != nil {
		return b.err
	}
	return take(ctx, b.lines)
}

func logged(n int, sender string, at time.Time) adapters.Message {
	m := message(fmt.Sprint(n), fmt.Sprint("text ", n)).Messages[0]
	m.Sender.ID, m.SentAt = sender, at
	return m
}

func backfill(l *ledger, b *logbook, store Taker) *Backfill {
	return &Backfill{
		Store: l, Inbox: NewInbox(store, func() {}, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
		Adapters: map[adapters.Channel]adapters.Adapter{adapters.SMS: b},
	}
}

func TestBackfillStoresWhatNeverCame(t *testing.T) {
	now := time.Now()
	store := &table{}
	l := &ledger{turn: BackfillTurn{Seat: Seat{Endpoint: phone}, At: now, Since: now.Add(-time.Hour)}, known: []string{"1", "3"}, erased: map[string]time.Time{"erased": now}}
	b := &logbook{lines: []adapters.Message{
		logged(1, "a", now), logged(2, "a", now), logged(3, "b", now), logged(4, "erased", now.Add(-time.Minute)), logged(5, "erased", now.Add(time.Minute)), logged(6, "b", now),
	}}
	backfill(l, b, store).look(t.Context())
	if got, want := texts(store.stored()), []string{"text 2", "text 5", "text 6"}; !slices.Equal(got, want) {
		t.Fatalf("stored %q, want %q", got, want)
	}
	if !l.done.Equal(now) || l.failed > 0 || l.next < backfillEvery || l.next > backfillEvery*6/5 {
		t.Fatalf("%+v", l)
	}
}

func TestBackfillLooksBackFarEnoughAndNoFurther(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		ago   time.Duration
		first bool
		want  time.Duration
	}{
		"Regular":         {ago: 15 * time.Minute, want: 25 * time.Minute},
		"AfterAWeek":      {ago: 7 * 24 * time.Hour, want: 24*time.Hour + 10*time.Minute},
		"JustConnected":   {ago: time.Minute, first: true, want: time.Minute},
		"ConnectedLong":   {ago: 7 * 24 * time.Hour, first: true, want: 24*time.Hour + 10*time.Minute},
		"ClockWentBefore": {ago: -time.Minute, want: 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			b := &logbook{}
			l := &ledger{turn: BackfillTurn{Seat: Seat{Endpoint: phone}, At: now, Since: now.Add(-c.ago), First: c.first}}
			backfill(l, b, &table{}).look(t.Context())
			if got := now.Sub(b.since); got != c.want {
				t.Fatalf("looked back %s, want %s", got, c.want)
			}
		})
	}
}

func TestBackfillIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		take   error
		atMost time.Duration
		least  time.Duration
		marked SeatStatus
	}{
		"Unreachable":        {err: &adapters.SendError{Reason: adapters.Unreachable}, least: firstRetry, atMost: lastRetry},
		"Throttled":          {err: &adapters.SendError{Reason: adapters.Throttled, RetryAfter: time.Hour}, least: time.Hour, atMost: time.Hour},
		"CredentialsRefused": {err: &adapters.SendError{Reason: adapters.BadSecret}, least: firstRetry, atMost: lastRetry, marked: Faulty},
		"CannotBeStored":     {take: errDown, least: firstRetry, atMost: lastRetry},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ledger{turn: BackfillTurn{Seat: Seat{Endpoint: phone}, At: time.Now(), Since: time.Now()}}
			store := &table{refuse: func(Arrival) error { return c.take }}
			backfill(l, &logbook{err: c.err, lines: []adapters.Message{logged(1, "a", time.Now())}}, store).look(t.Context())
			if l.failed != 1 || !l.done.IsZero() || l.next < c.least || l.next > c.atMost || l.marked != c.marked {
				t.Fatalf("%+v", l)
			}
		})
	}
}

// gauge is a PressureStore.
type gauge struct {
	waiting int
	starved bool
	fault   error
}

func (g *gauge) Unworked(_ context.Context, most int) (int, error) {
	return min(g.waiting, most), g.fault
}

func (g *gauge) Reach(ctx context.Context) error {
	if g.starved {
		<-ctx.Done()
		return ctx.Err()
	}
	return g.fault
}

func TestPressureComesAndGoes(t *testing.T) {
	g := &gauge{}
	p := &Pressure{Store: g, Limit: 10, Log: slog.New(slog.DiscardHandler)}
	store := &table{}
	b := inbox(t, store)
	b.Pressure = p
	for i, step := range []struct {
		gauge gauge
		high  bool
	}{
		{gauge{waiting: 10}, false},
		{gauge{waiting: 11}, true},
		{gauge{waiting: 11, fault: errors.New("no answer")}, true}, // as it was
		{gauge{}, false},
		{gauge{starved: true}, true},
		{gauge{fault: errors.New("refused at once")}, false},
		{gauge{}, false},
	} {
		*g = step.gauge
		p.look(t.Context())
		if p.High() != step.high {
			t.Fatalf("step %d: high %v", i, p.High())
		}
		err := b.Accept(t.Context(), seat, message(fmt.Sprint(i), "hello"))
		late := b.AcceptAt(t.Context(), seat, nil, Cursor{})
		if errors.Is(err, ErrBusy) != step.high || errors.Is(late, ErrBusy) != step.high {
			t.Fatalf("step %d: a hook gets %v, a poller %v", i, err, late)
		}
	}
	if len(store.stored()) != 4 {
		t.Fatalf("stored %d", len(store.stored()))
	}
}
