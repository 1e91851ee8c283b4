package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"hydragate/gateway"
)

func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeStore{}
		p := &Backpressure{Store: g, Limit: 10, Log: slog.New(slog.DiscardHandler)}
		store := &fakeStore{}
		b := startInbox(t, newInbox(store))
		b.Backpressure = p
		for i, step := range []struct {
			unprocessed int
			gate        chan struct{}
			err         error
			active      bool
		}{
			{unprocessed: 10, active: false},
			{unprocessed: 11, active: true},
			{unprocessed: 11, err: errors.New("no answer"), active: true}, // unchanged
			{active: false},
			{gate: make(chan struct{}), active: true},
			{err: errors.New("connection refused"), active: false},
			{active: false},
		} {
			g.unprocessed, g.gate, g.err = step.unprocessed, step.gate, step.err
			p.probe(t.Context())
			if p.Active() != step.active {
				t.Fatalf("step %d: Active = %v", i, p.Active())
			}
			err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), "hello"))
			pollErr := b.AcceptBatch(t.Context(), telegramEndpoint, nil, gateway.Cursor{})
			if errors.Is(err, gateway.ErrOverloaded) != step.active || errors.Is(pollErr, gateway.ErrOverloaded) != step.active {
				t.Fatalf("step %d: Accept = %v, AcceptBatch = %v", i, err, pollErr)
			}
		}
		if as, _ := store.stored(); len(as) != 4 {
			t.Fatalf("stored %d messages, want 4", len(as))
		}
	})
}
