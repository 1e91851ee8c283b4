package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"hydragate/gateway"
)

// A fakeBackpressureStore is a BackpressureStore with fixed values.
type fakeBackpressureStore struct {
	unprocessed int
	blocked     bool
	err         error
}

func TestBackpressure(t *testing.T) {
	g := &fakeBackpressureStore{}
	p := &Backpressure{Store: g, Limit: 10, Log: slog.New(slog.DiscardHandler)}
	store := &memoryStore{}
	b := runInbox(t, store)
	b.Backpressure = p
	for i, step := range []struct {
		store  fakeBackpressureStore
		active bool
	}{
		{fakeBackpressureStore{unprocessed: 10}, false},
		{fakeBackpressureStore{unprocessed: 11}, true},
		{fakeBackpressureStore{unprocessed: 11, err: errors.New("no answer")}, true}, // unchanged
		{fakeBackpressureStore{}, false},
		{fakeBackpressureStore{blocked: true}, true},
		{fakeBackpressureStore{err: errors.New("connection refused")}, false},
		{fakeBackpressureStore{}, false},
	} {
		*g = step.store
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
	if len(store.stored()) != 4 {
		t.Fatalf("stored %d messages, want 4", len(store.stored()))
	}
}
