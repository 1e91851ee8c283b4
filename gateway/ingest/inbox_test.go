package ingest

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
	"hydragate/gateway"
)

// A memoryStore stores messages in memory. If gate is set, it waits for it first.
type memoryStore struct {
	mu      sync.Mutex
	gate    chan struct{}
	batches [][]gateway.IncomingMessage
	reject  func(gateway.IncomingMessage) error
}

func (t *memoryStore) InsertMessages(
	ctx context.Context,
	as []gateway.IncomingMessage,
	_ *gateway.Cursor,
) (int, error) {
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
		if t.reject != nil {
			if err := t.reject(a); err != nil {
				return 0, err
			}
		}
	}
	t.batches = append(t.batches, as)
	return len(as), nil
}

func (t *memoryStore) ApplyReceipts(context.Context, adapters.Endpoint, []adapters.Receipt) error {
	return nil
}

func (t *memoryStore) TouchEndpoint(context.Context, string, time.Time) error { return nil }

func (t *memoryStore) stored() (as []gateway.IncomingMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.batches {
		as = append(as, b...)
	}
	return as
}

var telegramEndpoint = adapters.Endpoint{
	TenantID:   "t",
	InstanceID: "01a2012b-02ef-71ed-ade5-af96a0001aeb",
	Channel:    adapters.Telegram,
	Settings:   map[string]string{adapters.BotUsername: "acme_bot"},
}

func inboundText(key, text string) adapters.Inbound {
	return adapters.Inbound{
		Messages: []adapters.Message{
			{Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"}},
		},
	}
}

// runInbox runs an Inbox over store until the test ends.
func runInbox(t *testing.T, store InboxStore) *Inbox {
	b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return b
}

func TestInbox_GroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memoryStore{gate: make(chan struct{})}
		b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		for i := range 100 {
			wg.Go(func() {
				if err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), "hello")); err != nil {
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
			t.Fatalf("stored %d of 100 messages", n)
		}
		// Two callers committed alone, while the other 98 waited.
		if n := len(store.batches); n > 5 {
			t.Fatalf("%d commits for 100 callers", n)
		}
	})
}

func TestInbox_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memoryStore{gate: make(chan struct{})} // never opened
		b := NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		if err := b.Accept(t.Context(), telegramEndpoint, inboundText("1", "hello")); err == nil {
			t.Error("Accept = nil although nothing was stored")
		}
		stop()
		wg.Wait()
	})
}

func TestInbox_QuarantinesUnstorable(t *testing.T) {
	store := &memoryStore{reject: func(a gateway.IncomingMessage) error {
		if strings.Contains(a.Message.Text, "poison") {
			return gateway.ErrUnstorable
		}
		return nil
	}}
	b := runInbox(t, store)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			text := "good"
			if i%5 == 0 {
				text = "poison"
			}
			if err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), text)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	good, quarantined := 0, 0
	for _, a := range store.stored() {
		switch {
		case a.Message.Kind == adapters.Undecodable && a.Secret != nil && string(a.Secret.Raw) == "poison":
			quarantined++
		case a.Message.Text == "good":
			good++
		}
	}
	if good != 16 || quarantined != 4 {
		t.Fatalf("%d stored and %d quarantined, want 16 and 4", good, quarantined)
	}
}

func TestInbox_StoreError(t *testing.T) {
	down := errors.New("down")
	b := runInbox(t, &memoryStore{reject: func(gateway.IncomingMessage) error { return down }})
	if err := b.Accept(t.Context(), telegramEndpoint, inboundText("1", "hello")); !errors.Is(err, down) {
		t.Fatalf("Accept = %v, want the error of the store", err)
	}
}

func TestNewIncomingMessage_EncryptsCodes(t *testing.T) {
	for text, encrypted := range map[string]bool{
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
		m := inboundText("1", text).Messages[0]
		if c, ok := adapters.ParseCommand(text, "acme_bot"); ok {
			m.Command = &c
		}
		a := newIncomingMessage(telegramEndpoint, m)
		if got := a.Secret != nil; got != encrypted {
			t.Errorf("%q: encrypted = %v", text, got)
		}
		plain := a.Message.Text
		if a.Message.Command != nil {
			plain += a.Message.Command.Args
		}
		if encrypted && strings.Contains(strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(plain)), "WDJBMJ") {
			t.Errorf("%q: stored in plain text as %q", text, plain)
		}
		if encrypted && a.Secret.Text != text {
			t.Errorf("%q: encrypted as %q", text, a.Secret.Text)
		}
	}
}
