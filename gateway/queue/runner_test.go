package queue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/gateway"
)

// A fakeLeaseStore keeps lanes in memory, and until when nobody is to look at them.
type fakeLeaseStore struct {
	mu         sync.Mutex
	due        map[string]time.Time // by conversation; in work: not there
	order      []string
	instanceOf func(conversation string) (instance string)
}

func newFakeLeaseStore(of func(string) string, conversations ...string) *fakeLeaseStore {
	r := &fakeLeaseStore{due: map[string]time.Time{}, order: conversations, instanceOf: of}
	for _, c := range conversations {
		r.due[c] = time.Now()
	}
	return r
}

func (r *fakeLeaseStore) Lease(_ context.Context, kind gateway.QueueKind, holder string, n int, spared ...string) (ls []gateway.Lease, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.order {
		if at, waits := r.due[c]; waits && !at.After(time.Now()) && len(ls) < n && !slices.Contains(spared, r.instanceOf(c)) {
			delete(r.due, c)
			ls = append(ls, gateway.Lease{ConversationID: c, InstanceID: r.instanceOf(c), Kind: kind, Holder: holder})
		}
	}
	return ls, nil
}

func (r *fakeLeaseStore) Apply(_ context.Context, s gateway.Commit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Release && !s.Next.IsZero() {
		r.due[s.Lease.ConversationID] = s.Next
	}
	return nil
}

// runFor runs lanes for a while.
func runFor(l *Runner, d time.Duration) {
	hard, giveUp := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(hard)
	var all sync.WaitGroup
	all.Go(func() { l.Run(ctx, hard) })
	time.Sleep(d)
	stop()
	giveUp()
	all.Wait()
}

// TestRunner_LimitPerInstance lets the runtimes of instances hang that have more lanes
// than are worked at once: those of the others are worked all the same.
func TestRunner_LimitPerInstance(t *testing.T) {
	const size = 64
	for _, tt := range []struct {
		name   string
		shared bool
		slow   int // instances
		held   int // the most lanes of one of them in work
		worked int
	}{
		{"one", true, 1, size/2 + maxLeases/2, 20},
		{"three", true, 3, size/2 + maxLeases/2, 20},
		{"control: not shared", false, 1, size, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all []string
				for i := range tt.slow {
					for n := range 2 * size {
						all = append(all, fmt.Sprintf("slow%d %d", i, n))
					}
				}
				for n := range 20 {
					all = append(all, fmt.Sprintf("quick %d", n))
				}
				r := newFakeLeaseStore(func(c string) string { return strings.Fields(c)[0] }, all...)
				var mu sync.Mutex
				held, worked := map[string]int{}, 0
				runFor(NewRunner(&Runner{Kind: gateway.DeliveryQueue, Store: r, Concurrency: size, LimitPerInstance: tt.shared, Log: slog.New(slog.DiscardHandler), Process: func(ctx context.Context, l gateway.Lease, _ Slice) error {
					mu.Lock()
					held[l.InstanceID]++
					quick := l.InstanceID == "quick"
					if quick {
						worked++
					}
					mu.Unlock()
					if !quick {
						<-ctx.Done()
					}
					return nil
				}}), time.Second)
				if worked != tt.worked {
					t.Errorf("%d lanes of others were worked; want %d", worked, tt.worked)
				}
				for i := range tt.slow {
					if n := held[fmt.Sprintf("slow%d", i)]; n > tt.held || n == 0 {
						t.Errorf("of instance %d %d lanes are in work; want 1 to %d", i, n, tt.held)
					}
				}
			})
		})
	}
}
