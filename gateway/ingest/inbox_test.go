package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"hydragate/adapters"
	"hydragate/gateway"
)

func TestInbox_GroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{gate: make(chan struct{})}
		b := newInbox(store)
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
		if as, _ := store.stored(); len(as) != 100 {
			t.Fatalf("stored %d of 100 messages", len(as))
		}
		// Two callers committed alone, while the other 98 waited.
		if n := len(store.batches); n > 5 {
			t.Fatalf("%d commits for 100 callers", n)
		}
	})
}

func TestInbox_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{gate: make(chan struct{})} // never opened
		b := newInbox(store)
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
	store := &fakeStore{reject: func(a gateway.IncomingMessage) error {
		if strings.Contains(a.Message.Text, "poison") {
			return gateway.ErrUnstorable
		}
		return nil
	}}
	b := startInbox(t, newInbox(store))
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
	as, _ := store.stored()
	for _, a := range as {
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
	b := startInbox(t, newInbox(&fakeStore{reject: func(gateway.IncomingMessage) error { return down }}))
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
