package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/gateway/queue/queuetest"
)

// TestRunner_LimitPerInstance blocks the work of instances that have more conversations due than
// the runner processes concurrently. The conversations of another instance must still be processed.
func TestRunner_LimitPerInstance(t *testing.T) {
	const (
		concurrency = 64
		maxHeld     = 48 // half of the concurrency, and half of one batch of 32 leases
		others      = 20
	)
	for _, tt := range []struct {
		name          string
		limit         bool
		slowInstances int
		maxHeld       int // conversations of one slow instance in progress
		want          int // conversations of the other instance processed
	}{
		{"one slow instance", true, 1, maxHeld, others},
		{"three slow instances", true, 3, maxHeld, others},
		{"control: no limit", false, 1, concurrency, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var conversations []string
				for i := range tt.slowInstances {
					for n := range 2 * concurrency {
						conversations = append(conversations, fmt.Sprintf("slow%d %d", i, n))
					}
				}
				for n := range others {
					conversations = append(conversations, fmt.Sprintf("fast %d", n))
				}
				instanceOf := func(conversation string) string { return strings.Fields(conversation)[0] }
				started := startedByInstance(&queue.Runner{
					Kind:             gateway.DeliveryQueue,
					Store:            queuetest.NewLeaseStore(instanceOf, conversations...),
					Concurrency:      concurrency,
					LimitPerInstance: tt.limit,
					Log:              slog.New(slog.DiscardHandler),
				})
				if started["fast"] != tt.want {
					t.Errorf("processed %d conversations of the fast instance, want %d", started["fast"], tt.want)
				}
				for i := range tt.slowInstances {
					if n := started[fmt.Sprintf("slow%d", i)]; n > tt.maxHeld || n == 0 {
						t.Errorf("conversations of slow instance %d in progress = %d, want 1 to %d", i, n, tt.maxHeld)
					}
				}
			})
		})
	}
}

// TestRunner_LostLease checks that a queue is processed again if its lease was not lost to another process,
// but some of its messages were erased.
func TestRunner_LostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		queuetest.RunFor(queue.NewRunner(&queue.Runner{
			Kind:        gateway.InboxQueue,
			Store:       queuetest.NewLeaseStore(func(string) string { return "i" }, "c"),
			Concurrency: 1,
			Log:         slog.New(slog.DiscardHandler),
			Process: func(context.Context, gateway.Lease, queue.Slice) error {
				if calls++; calls == 1 {
					return gateway.ErrLeaseLost
				}
				return nil
			},
		}), gateway.LeaseDuration/2)
		if calls != 2 {
			t.Errorf("processed %d times, want 2", calls)
		}
	})
}

// startedByInstance runs r for a second with work that blocks unless the instance is "fast". It
// returns the number of conversations whose work was started, by instance.
func startedByInstance(r *queue.Runner) map[string]int {
	var mu sync.Mutex
	started := map[string]int{}
	r.Process = func(ctx context.Context, l gateway.Lease, _ queue.Slice) error {
		mu.Lock()
		started[l.InstanceID]++
		mu.Unlock()
		if l.InstanceID != "fast" {
			<-ctx.Done()
		}
		return nil
	}
	queuetest.RunFor(queue.NewRunner(r), time.Second)
	return started
}
