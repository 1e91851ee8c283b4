package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A faultyPoller fails its polls with an error until it is cured.
type faultyPoller struct {
	adapters.Adapter
	mu    sync.Mutex
	err   error
	after time.Duration // a poll runs for so long before it fails
	polls int
}

func (p *faultyPoller) Poll(
	ctx context.Context, _ adapters.Endpoint, _ string, _ func(context.Context, []adapters.Message, string) error,
) error {
	p.mu.Lock()
	p.polls++
	err, after := p.err, p.after
	p.mu.Unlock()
	if err == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	if sleepErr := adapters.Sleep(ctx, after); sleepErr != nil {
		return sleepErr
	}
	return err
}

// set changes the error, and returns the number of polls until now.
func (p *faultyPoller) set(err error, after time.Duration) (polls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.after = err, after
	return p.polls
}

// A healthStore is a PollStore with one endpoint. It records the changes of its fault.
type healthStore struct {
	twoEndpointStore
	mu     sync.Mutex
	faults []string
}

func (*healthStore) PollingEndpoints(context.Context) ([]gateway.EndpointState, error) {
	return []gateway.EndpointState{{Endpoint: adapters.Endpoint{ID: "one", Channel: adapters.Telegram}}}, nil
}

func (s *healthStore) RecordPoll(
	_ context.Context, _ gateway.EndpointState, _ gateway.Cursor, fault string,
) (gateway.EndpointStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 || s.faults[len(s.faults)-1] != fault {
		s.faults = append(s.faults, fault)
	}
	return gateway.EndpointActive, nil
}

func (s *healthStore) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.faults, "|")
}

// TestPollers_Faults checks that polling goes on after every error, that staff see the words of the
// provider, and that the endpoint works again by itself.
func TestPollers_Faults(t *testing.T) {
	fail := func(reason adapters.Reason, code, words string) error {
		return &adapters.SendError{Reason: reason, Code: code, Err: errors.New(words)}
	}
	for _, tt := range []struct {
		name     string
		err      error
		after    time.Duration
		outage   time.Duration
		want     string // changes of the fault
		recovers time.Duration
	}{
		{
			"75 s of 401", fail(adapters.BadSecret, "401", "Unauthorized"), 0, 75 * time.Second,
			"Messages cannot be fetched: Unauthorized (401).|", 50 * time.Second,
		},
		{
			"short burst of 401", fail(adapters.BadSecret, "401", "Unauthorized"), 0, 1500 * time.Millisecond,
			"", 50 * time.Second,
		},
		{
			"webhook of another program", fail(adapters.Conflict, "409", "webhook is active"), 0, time.Hour,
			"Messages cannot be fetched: webhook is active (409).|", 2 * time.Minute,
		},
		{
			"rival poller", fail(adapters.Conflict, "409", "other getUpdates"), 3 * time.Second, time.Hour,
			"Messages cannot be fetched: other getUpdates (409).|", 2 * time.Minute,
		},
		{
			"one conflict", fail(adapters.Conflict, "409", "other getUpdates"), 0, 500 * time.Millisecond, "", 2 * time.Minute,
		},
		{
			"Socket Mode switched off", fail(adapters.Refused, "link_disabled", "slack reported an error"), 0, time.Hour,
			"Messages cannot be fetched: slack reported an error (link_disabled).|", time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				poller, store := &faultyPoller{}, &healthStore{}
				poller.set(tt.err, tt.after)
				p := &Pollers{
					Store: store, Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: poller},
					Log: slog.New(slog.DiscardHandler),
				}
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { p.Run(ctx) })
				<-time.After(tt.outage)
				if got := store.log(); tt.want != "" && got+"|" != tt.want {
					t.Errorf("faults = %q, want %q", got, tt.want)
				}
				polls := poller.set(nil, 0)
				if limit := int(tt.outage/(15*time.Second)) + 10; polls > limit {
					t.Errorf("%d polls in %v, want at most %d", polls, tt.outage, limit)
				}
				<-time.After(tt.recovers)
				if got := store.log(); got != tt.want {
					t.Errorf("faults after the recovery = %q, want %q", got, tt.want)
				}
				stop()
				wg.Wait()
			})
		})
	}
}

// TestPollHealth_Conflicts checks that only repeated conflicts are a fault.
func TestPollHealth_Conflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &healthStore{}
		h := pollHealth{store: store, log: slog.New(slog.DiscardHandler), maxProofTime: conflictProofTime}
		conflict := &adapters.SendError{Reason: adapters.Conflict, Code: "409", Err: errors.New("conflict")}
		for range 5 {
			h.fail(t.Context(), conflict)
			<-time.After(31 * time.Second)
		}
		if got := store.log(); got != "" {
			t.Errorf("a conflict every 31 s is a fault: %q", got)
		}
		for range 3 {
			h.fail(t.Context(), conflict)
		}
		if got := fmt.Sprint(slices.Clone(store.faults)); !strings.Contains(got, "conflict") {
			t.Errorf("three conflicts in a row: faults = %s", got)
		}
	})
}
