package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
)

// TestAPanicCostsOneMessageOnly has a fault of ours meet a message, a reply, what is
// stored and a poller. It is logged with where it came from; what it met is tried again
// as often as anything that fails, and given up; everything beside it goes on, also what
// comes after it in the same conversation.
func TestAPanicCostsOneMessageOnly(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *slog.Logger){
		"Message": messagePanics, "Reply": replyPanics, "Hook": storingPanics, "Poll": pollPanics,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log safeLog
				test(t, slog.New(slog.NewTextHandler(&log, nil)))
				if said := log.String(); !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "oops") || !strings.Contains(said, "panic_test.go") {
					t.Errorf("the log does not tell what happened, and where: %s", said)
				}
			})
		})
	}
}

type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// cursed is what a fault meets.
const cursed = "cursed"

// A faulty adapter and its endpoints panic where anything cursed is met.
type faulty struct {
	adapters.Adapter
	mu    sync.Mutex
	polls map[string]int // by endpoint
}

func (f *faulty) Endpoint(_ context.Context, instance string, _ adapters.Channel) (adapters.Endpoint, error) {
	if instance == cursed {
		panic("oops")
	}
	return adapters.Endpoint{}, nil
}

func (f *faulty) Send(_ context.Context, _ adapters.Endpoint, r adapters.Reply) (string, error) {
	if r.Text == cursed {
		panic("oops")
	}
	return "1", nil
}

func (f *faulty) Poll(ctx context.Context, ep adapters.Endpoint, _ string, _ func(context.Context, []adapters.Message, string) error) error {
	f.mu.Lock()
	f.polls[ep.ID]++
	n := f.polls[ep.ID]
	f.mu.Unlock()
	if ep.ID == cursed && n <= 3 {
		panic("oops")
	}
	<-ctx.Done()
	return ctx.Err()
}

var oneEach = func(conversation string) string { return conversation }

// messages is a rack with the messages of its conversations.
type messages struct {
	*rack
	waiting  map[string][]Inbound
	outcomes map[string]string // by message
	tries    int               // that failed
}

func (m *messages) Inbound(_ context.Context, l Lease) ([]Inbound, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Inbound(nil), m.waiting[l.ConversationID]...), nil
}

func (m *messages) Settle(ctx context.Context, s Settlement) error {
	m.mu.Lock()
	for _, done := range s.Messages {
		waiting := m.waiting[s.Lease.ConversationID]
		if done.Retry || done.Dead {
			m.tries++
		}
		if done.Retry {
			waiting[0].Attempts++
			continue
		}
		m.outcomes[done.ID] = done.Outcome
		m.waiting[s.Lease.ConversationID] = waiting[1:]
	}
	m.mu.Unlock()
	return m.rack.Settle(ctx, s)
}

func messagePanics(t *testing.T, log *slog.Logger) {
	one := func(id, conversation, instance string) Inbound {
		in := Inbound{ID: id, ConversationID: conversation, InstanceID: instance, Channel: adapters.Telegram, Instance: Instance{UnknownSenders: Forward}}
		in.Message = adapters.Message{Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: "1"}}
		in.Sender.ID = "sender"
		return in
	}
	m := &messages{rack: newRack(oneEach, "here", "there"), outcomes: map[string]string{}, waiting: map[string][]Inbound{
		"here": {one("bad", "here", cursed), one("after", "here", "i")}, "there": {one("beside", "there", "i")},
	}}
	w := &Worker{Store: m, Channels: &faulty{}, Log: log, Now: time.Now, Woken: func(...LaneKind) {}}
	works(NewLanes(&Lanes{Kind: InboxLane, Store: m, Size: 4, Log: log, Work: w.Work}), 5*time.Minute)
	if got, want := fmt.Sprint(m.outcomes, m.tries), fmt.Sprintf("map[after:forwarded bad:dead beside:forwarded] %d", maxAttempts); got != want {
		t.Errorf("%s; want %s", got, want)
	}
	t.Logf("of three messages: %v, after %d tries", m.outcomes, m.tries)
}

// replies is a rack with the replies of its conversations.
type replies struct {
	*rack
	waiting map[string][]OutboxRow
	ended   map[string]string // by reply: how, after how many attempts
}

func (r *replies) Outgoing(_ context.Context, l Lease) ([]OutboxRow, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]OutboxRow(nil), r.waiting[l.ConversationID]...), time.Time{}, nil
}

func (r *replies) Settle(ctx context.Context, s Settlement) error {
	r.mu.Lock()
	for _, done := range s.SendDone {
		first := &r.waiting[s.Lease.ConversationID][0]
		switch first.Status = done.Status; done.Status {
		case Sending:
			first.Attempts++
		case adapters.Queued:
			first.Maybe = done.Maybe
		default:
			r.ended[done.Row.ID] = fmt.Sprint(done.Status, " ", first.Attempts)
			r.waiting[s.Lease.ConversationID] = r.waiting[s.Lease.ConversationID][1:]
		}
	}
	r.mu.Unlock()
	return r.rack.Settle(ctx, s)
}

func replyPanics(t *testing.T, log *slog.Logger) {
	one := func(id, text string) OutboxRow {
		return OutboxRow{ID: id, Text: text, Channel: adapters.Telegram, Status: adapters.Queued}
	}
	r := &replies{rack: newRack(oneEach, "here", "there"), ended: map[string]string{}, waiting: map[string][]OutboxRow{
		"here": {one("bad", cursed), one("after", "hello")}, "there": {one("beside", "hello")},
	}}
	f := &faulty{}
	s := &Sender{Store: r, Channels: f, Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: f}, Log: log, Now: time.Now}
	works(NewLanes(&Lanes{Kind: OutboxLane, Store: r, Size: 4, Log: log, Work: s.Work}), time.Hour)
	t.Logf("of three replies, and after how many tries: %v", r.ended)
	if got, want := fmt.Sprint(r.ended), fmt.Sprintf("map[after:sent 1 bad:unknown %d beside:sent 1]", maxSends); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func storingPanics(t *testing.T, log *slog.Logger) {
	store := &table{refuse: func(a Arrival) error {
		if a.Message.Text == cursed {
			panic("oops")
		}
		return nil
	}}
	b := NewInbox(store, func() {}, log)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { b.Run(ctx) })
	for i, text := range []string{"hello", cursed, "hello"} {
		all.Go(func() {
			if err := b.Accept(t.Context(), seat, message(fmt.Sprint(i), text)); err != nil {
				t.Errorf("%s is not taken: %v", text, err)
			}
		})
	}
	synctest.Wait()
	stop()
	all.Wait()
	kinds := map[adapters.Kind]int{}
	for _, a := range store.stored() {
		kinds[a.Message.Kind]++
	}
	t.Logf("of three messages that came together: %v", kinds)
	if kinds[adapters.Text] != 2 || kinds[adapters.Undecodable] != 1 {
		t.Errorf("stored are %v; want two texts, and one as bytes", kinds)
	}
}

// seats gives two endpoints to whoever polls.
type seats struct{ PollStore }

func (seats) PollingSeats(context.Context) ([]Seat, error) {
	return []Seat{{Endpoint: adapters.Endpoint{ID: cursed, Channel: adapters.Telegram}}, {Endpoint: adapters.Endpoint{ID: "beside", Channel: adapters.Telegram}}}, nil
}

func (seats) TakePoll(context.Context, string, string, string) (int64, string, bool, error) {
	return 1, "", true, nil
}

func (seats) FreePoll(context.Context, string, string, string, int64) error { return nil }

func (seats) MarkSeat(context.Context, Seat, time.Time) (bool, error) {
	return false, errors.New("nobody gave a reason")
}

func pollPanics(t *testing.T, log *slog.Logger) {
	f := &faulty{polls: map[string]int{}}
	p := &Pollers{Store: seats{}, Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: f}, Log: log}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { p.Run(ctx) })
	time.Sleep(time.Minute)
	stop()
	all.Wait()
	t.Logf("polled, after three panics: %v", f.polls)
	if f.polls[cursed] != 4 || f.polls["beside"] != 1 {
		t.Errorf("polled %v times; want the cursed one to begin again three times, and the one beside it never", f.polls)
	}
}
