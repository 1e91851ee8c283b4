package gateway

import (
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

// table takes arrivals in memory, behind a gate when there is one.
type table struct {
	mu      sync.Mutex
	gate    chan struct{}
	batches [][]Arrival
	refuse  func(Arrival) error
}

func (t *table) Take(ctx context.Context, as []Arrival, _ *Cursor) (int, error) {
	if t.gate != nil {
		select {
		case <-t.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range as {
		if t.refuse != nil {
			if err := t.refuse(a); err != nil {
				return 0, err
			}
		}
	}
	t.batches = append(t.batches, as)
	return len(as), nil
}

func (t *table) Receive(context.Context, adapters.Endpoint, []adapters.Receipt) error { return nil }

func (t *table) TouchSeat(context.Context, string, time.Time) error { return nil }

func (t *table) stored() (as []Arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.batches {
		as = append(as, b...)
	}
	return as
}

var seat = adapters.Endpoint{TenantID: "t", InstanceID: "01a2012b-02ef-71ed-ade5-af96a0001aeb", Channel: adapters.Telegram, Settings: map[string]string{adapters.BotUsername: "acme_bot"}}

func message(key, text string) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{{Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Place: adapters.Place{ID: "1"}}}}
}

// inbox runs an Inbox over store until the test ends.
func inbox(t *testing.T, store Taker) *Inbox {
	b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return b
}

func TestInboxSharesCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &table{gate: make(chan struct{})}
		b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		for i := range 100 {
			wg.Go(func() {
				if err := b.Accept(t.Context(), seat, message(fmt.Sprint(i), "hello")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(store.gate)
		synctest.Wait()
		stop()
		wg.Wait()
		if n := len(store.stored()); n != 100 {
			t.Fatalf("stored %d of 100", n)
		}
		// Two callers found nobody before them; the other 98 waited while those committed.
		if n := len(store.batches); n > 5 {
			t.Fatalf("%d commits for callers that waited together", n)
		}
	})
}

func TestInboxAnswersInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &table{gate: make(chan struct{})} // frozen
		b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		if err := b.Accept(t.Context(), seat, message("1", "hello")); err == nil {
			t.Error("acknowledged while nothing can be stored")
		}
		stop()
		wg.Wait()
	})
}

func TestInboxQuarantinesWhatIsRefused(t *testing.T) {
	store := &table{refuse: func(a Arrival) error {
		if strings.Contains(a.Message.Text, "poison") {
			return ErrUnstorable
		}
		return nil
	}}
	b := inbox(t, store)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			text := "good"
			if i%5 == 0 {
				text = "poison"
			}
			if err := b.Accept(t.Context(), seat, message(fmt.Sprint(i), text)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	good, kept := 0, 0
	for _, a := range store.stored() {
		switch {
		case a.Message.Kind == adapters.Undecodable && a.Secret != nil && string(a.Secret.Raw) == "poison":
			kept++
		case a.Message.Text == "good":
			good++
		}
	}
	if good != 16 || kept != 4 {
		t.Fatalf("%d good and %d kept as bytes; want 16 and 4", good, kept)
	}
}

func TestInboxPassesTheFaultOn(t *testing.T) {
	down := errors.New("down")
	b := inbox(t, &table{refuse: func(Arrival) error { return down }})
	if err := b.Accept(t.Context(), seat, message("1", "hello")); !errors.Is(err, down) {
		t.Fatalf("%v; want the store's error", err)
	}
}

func TestArriveSealsWhatMayBeACode(t *testing.T) {
	for text, sealed := range map[string]bool{
		"/claim WDJBMJ":                 true,
		"/claim@acme_bot wdj-bmj":       true,
		"claim wdj bmj":                 true,
		"/start claim_WDJBMJ":           true,
		"/start@acme_bot claim_WDJBMJ":  true,
		"/claim@other_bot WDJBMJ":       true,
		"/start@other_bot claim_WDJBMJ": true,
		"/start@other_bot hello":        false,
		"WDJBMJ":                        true,
		"/claim nonsense":               true,
		"hello":                         false,
		"I claim nothing":               false,
		"/help":                         false,
		"see you at the claim desk":     false,
	} {
		m := message("1", text).Messages[0]
		if c, ok := adapters.ParseCommand(text, "acme_bot"); ok {
			m.Command = &c
		}
		a := arrive(seat, m)
		if got := a.Secret != nil; got != sealed {
			t.Errorf("%q: sealed %v", text, got)
		}
		open := a.Message.Text
		if a.Message.Command != nil {
			open += a.Message.Command.Args
		}
		if sealed && strings.Contains(strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(open)), "WDJBMJ") {
			t.Errorf("%q: the code stays open in %q", text, open)
		}
		if sealed && a.Secret.Text != text {
			t.Errorf("%q: sealed as %q", text, a.Secret.Text)
		}
	}
}
