package ingest

import (
	"bytes"
	"context"
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

// TestInbox_Panic checks that a message which makes the store panic is stored as undecodable, and
// that the messages in the same commit are stored as they are.
func TestInbox_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{reject: func(m gateway.IncomingMessage) error {
			if m.Message.Text == "broken" {
				panic("oops")
			}
			return nil
		}}
		var out bytes.Buffer
		b := NewInbox(store, func() {}, slog.New(slog.NewTextHandler(&out, nil)))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		for i, text := range []string{"hello", "broken", "hello"} {
			wg.Go(func() {
				if err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), text)); err != nil {
					t.Errorf("Accept(%q) = %v, want nil", text, err)
				}
			})
		}
		synctest.Wait()
		stop()
		wg.Wait()

		kinds := map[adapters.Kind]int{}
		as, _ := store.stored()
		for _, m := range as {
			kinds[m.Message.Kind]++
		}
		if kinds[adapters.Text] != 2 || kinds[adapters.Undecodable] != 1 {
			t.Errorf("stored messages by kind = %v, want two texts and one undecodable message", kinds)
		}
		for _, want := range []string{"level=ERROR", "oops", "panic_test.go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log does not contain %q: %s", want, out.String())
			}
		}
	})
}

// panickingPoller panics the first three times that it polls the endpoint "broken".
type panickingPoller struct {
	adapters.Adapter
	mu    sync.Mutex
	polls map[string]int // by endpoint
}

func (p *panickingPoller) Poll(
	ctx context.Context, ep adapters.Endpoint, _ string, _ func(context.Context, []adapters.Message, string) error,
) error {
	p.mu.Lock()
	p.polls[ep.ID]++
	n := p.polls[ep.ID]
	p.mu.Unlock()
	if ep.ID == "broken" && n <= 3 {
		panic("oops")
	}
	<-ctx.Done()
	return ctx.Err()
}

// twoEndpointStore is a PollStore with the endpoints "broken" and "other", whose leases are free.
type twoEndpointStore struct{ PollStore }

func (twoEndpointStore) PollingEndpoints(context.Context) ([]gateway.EndpointState, error) {
	return []gateway.EndpointState{
		{Endpoint: adapters.Endpoint{ID: "broken", Channel: adapters.Telegram}},
		{Endpoint: adapters.Endpoint{ID: "other", Channel: adapters.Telegram}},
	}, nil
}

func (twoEndpointStore) AcquirePollLease(context.Context, string, string, string) (int64, string, bool, error) {
	return 1, "", true, nil
}

func (twoEndpointStore) ReleasePollLease(context.Context, adapters.Endpoint, string, int64) error {
	return nil
}

func (twoEndpointStore) RecordPoll(
	context.Context, gateway.EndpointState, gateway.Cursor, string,
) (gateway.EndpointStatus, error) {
	return gateway.EndpointActive, nil
}

// TestPollers_Panic checks that a poller which panics is started again, and that the poller of
// another endpoint is not restarted.
func TestPollers_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		poller := &panickingPoller{polls: map[string]int{}}
		var out bytes.Buffer
		p := &Pollers{
			Store:    twoEndpointStore{},
			Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: poller},
			Log:      slog.New(slog.NewTextHandler(&out, nil)),
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		<-time.After(time.Minute)
		stop()
		wg.Wait()

		if got, want := fmt.Sprint(poller.polls), "map[broken:4 other:1]"; got != want {
			t.Errorf("polls = %s, want %s", got, want)
		}
		for _, want := range []string{"level=ERROR", "oops", "panic_test.go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log does not contain %q: %s", want, out.String())
			}
		}
	})
}
