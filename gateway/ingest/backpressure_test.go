package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"hydragate/gateway"
)

// fakeBackpressureStore is a PressureStore.
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
		gauge fakeBackpressureStore
		high  bool
	}{
		{fakeBackpressureStore{unprocessed: 10}, false},
		{fakeBackpressureStore{unprocessed: 11}, true},
		{fakeBackpressureStore{unprocessed: 11, err: errors.New("no answer")}, true}, // as it was
		{fakeBackpressureStore{}, false},
		{fakeBackpressureStore{blocked: true}, true},
		{fakeBackpressureStore{err: errors.New("refused at once")}, false},
		{fakeBackpressureStore{}, false},
	} {
		*g = step.gauge
		p.probe(t.Context())
		if p.Active() != step.high {
			t.Fatalf("step %d: high %v", i, p.Active())
		}
		err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), "hello"))
		late := b.AcceptBatch(t.Context(), telegramEndpoint, nil, gateway.Cursor{})
		if errors.Is(err, gateway.ErrOverloaded) != step.high || errors.Is(late, gateway.ErrOverloaded) != step.high {
			t.Fatalf("step %d: a hook gets %v, a poller %v", i, err, late)
		}
	}
	if len(store.stored()) != 4 {
		t.Fatalf("stored %d", len(store.stored()))
	}
}
