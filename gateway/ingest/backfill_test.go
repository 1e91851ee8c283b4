package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A fakeBackfillStore is a BackfillStore and an InboxStore in memory, with one endpoint that is due.
type fakeBackfillStore struct {
	fakeStore
	task        gateway.BackfillTask
	known       []string
	completedAt time.Time
	next        time.Duration
	failed      int
	notice      string
}

func (l *fakeBackfillStore) ScheduleBackfills(context.Context, []adapters.Channel) error { return nil }

func (l *fakeBackfillStore) LeaseBackfills(context.Context, []adapters.Channel, int) ([]gateway.BackfillTask, error) {
	return []gateway.BackfillTask{l.task}, nil
}

func (l *fakeBackfillStore) CompleteBackfill(_ context.Context, _, _ string, upTo time.Time, next time.Duration) error {
	l.completedAt, l.next = upTo, next
	return nil
}

func (l *fakeBackfillStore) FailBackfill(_ context.Context, _, _ string, next time.Duration) error {
	l.failed++
	l.next = next
	return nil
}

func (l *fakeBackfillStore) MissingKeys(
	_ context.Context, _, _ string, _ adapters.Channel, keys []string,
) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(l.known, k) }), nil
}

func (l *fakeBackfillStore) RecordNotice(_ context.Context, _ adapters.Endpoint, n gateway.Notice) error {
	l.notice = n.Reason
	return nil
}

// A fakeLog is an adapter whose provider keeps a log.
type fakeLog struct {
	adapters.Adapter
	messages []adapters.Message
	err      error
	since    time.Time
}

func (b *fakeLog) FetchLog(
	ctx context.Context, _ adapters.Endpoint, since time.Time, take func(context.Context, []adapters.Message) error,
) error {
	b.since = since
	if b.err != nil {
		return b.err
	}
	return take(ctx, b.messages)
}

func loggedMessage(n int, sender string, at time.Time) adapters.Message {
	m := inboundText(fmt.Sprint(n), fmt.Sprint("text ", n)).Messages[0]
	m.Sender.ID, m.SentAt = sender, at
	return m
}

func newBackfill(l *fakeBackfillStore, b *fakeLog) *Backfill {
	l.task.State.Endpoint = smsEndpoint
	return &Backfill{
		Store: l, Inbox: newInbox(l), Log: slog.New(slog.DiscardHandler),
		Adapters: map[adapters.Channel]adapters.Adapter{adapters.SMS: b},
	}
}

func TestBackfill_StoresMissingMessages(t *testing.T) {
	now := time.Now()
	l := &fakeBackfillStore{
		task:      gateway.BackfillTask{StartedAt: now, Since: now.Add(-time.Hour)},
		known:     []string{"1", "3"},
		fakeStore: fakeStore{erased: map[string]time.Time{"erased": now}},
	}
	b := &fakeLog{messages: []adapters.Message{
		loggedMessage(1, "a", now), loggedMessage(2, "a", now), loggedMessage(3, "b", now),
		loggedMessage(4, "erased", now.Add(-time.Minute)), loggedMessage(5, "erased", now.Add(time.Minute)),
		loggedMessage(6, "b", now),
	}}
	newBackfill(l, b).runDue(t.Context())
	if _, got := l.stored(); fmt.Sprint(got) != "[text 2 text 5 text 6]" {
		t.Fatalf("stored %q, want texts 2, 5 and 6", got)
	}
	if !l.completedAt.Equal(now) || l.failed > 0 || l.next < backfillInterval || l.next > backfillInterval*6/5 {
		t.Fatalf("%+v", l)
	}
}

func TestBackfill_Lookback(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		ago   time.Duration
		first bool
		want  time.Duration
	}{
		"regular":            {ago: 15 * time.Minute, want: 25 * time.Minute},
		"after a week":       {ago: 7 * 24 * time.Hour, want: 24*time.Hour + 10*time.Minute},
		"recently connected": {ago: time.Minute, first: true, want: time.Minute},
		"connected long":     {ago: 7 * 24 * time.Hour, first: true, want: 24*time.Hour + 10*time.Minute},
		"clock set back":     {ago: -time.Minute, want: 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			b := &fakeLog{}
			l := &fakeBackfillStore{
				task: gateway.BackfillTask{StartedAt: now, Since: now.Add(-c.ago), FirstRun: c.first},
			}
			newBackfill(l, b).runDue(t.Context())
			if got := now.Sub(b.since); got != c.want {
				t.Fatalf("searched the last %s, want %s", got, c.want)
			}
		})
	}
}

func TestBackfill_Retry(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		take    error
		atMost  time.Duration
		atLeast time.Duration
		notice  string
	}{
		"unreachable": {
			err:     &adapters.SendError{Reason: adapters.Unreachable},
			atLeast: 9 * time.Second, atMost: 13 * time.Second,
		},
		"throttled": {
			err:     &adapters.SendError{Reason: adapters.Throttled, RetryAfter: time.Hour},
			atLeast: time.Hour, atMost: time.Hour,
		},
		"credentials rejected": {
			err:     &adapters.SendError{Reason: adapters.BadSecret},
			atLeast: 9 * time.Second, atMost: 13 * time.Second, notice: "bad_secret",
		},
		"store error": {take: errStoreDown, atLeast: 9 * time.Second, atMost: 13 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := &fakeBackfillStore{task: gateway.BackfillTask{StartedAt: time.Now(), Since: time.Now()}}
			l.reject = func(gateway.IncomingMessage) error { return c.take }
			b := &fakeLog{err: c.err, messages: []adapters.Message{loggedMessage(1, "a", time.Now())}}
			newBackfill(l, b).runDue(t.Context())
			if l.failed != 1 || !l.completedAt.IsZero() || l.next < c.atLeast || l.next > c.atMost || l.notice != c.notice {
				t.Fatalf("%+v", l)
			}
		})
	}
}
