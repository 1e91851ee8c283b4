// Package queue runs the work of conversations: it leases the queues that are due from a store and
// processes each in its own goroutine, in order and under a lease that is renewed while the work
// goes on. It does not know what the items of a queue are, nor where they are stored.
package queue

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A Runner processes the queues of one kind. It looks for queues that are due when it is woken,
// when it has finished one while it was at capacity, and periodically, since wake-ups from other
// processes may be lost.
type Runner struct {
	Kind        gateway.QueueKind
	Store       LeaseStore
	Holder      string // identifies this process; must be unique
	Concurrency int    // maximum number of queues processed concurrently
	Log         *slog.Logger

	// Process processes a leased queue. With its last commit it must release the lease. It must do
	// so early when the slice has expired, and check the slice between two items. If it returns an
	// error, the runner releases the lease and the queue is soon due again.
	Process func(ctx context.Context, l gateway.Lease, slice Slice) error

	// LimitPerInstance is set if the work waits for a remote system that belongs to an instance. No
	// more queues of an instance are then processed than slots are free for other instances, so that
	// a slow system only delays its own instance.
	LimitPerInstance bool

	wake chan struct{}

	mu     sync.Mutex
	active map[string]int // queues being processed, by instance
}

// A LeaseStore leases queues and stores the results of processing them.
type LeaseStore interface {
	// Lease leases at most n queues that are due, except those of the excluded instances.
	Lease(
		ctx context.Context, kind gateway.QueueKind, holder string, n int, excluded ...string,
	) ([]gateway.Lease, error)
	// Apply stores c and renews or releases its lease. It returns gateway.ErrLeaseLost if the lease
	// is not held any more.
	Apply(ctx context.Context, c gateway.Commit) error
}

// ErrorDelay is the delay before the store is used again after an error.
const ErrorDelay = time.Second

const (
	pollInterval  = 500 * time.Millisecond
	leaseTimeout  = 5 * time.Second
	maxLeases     = 32 // leased in one call
	sliceDuration = 30 * time.Second
	renewInterval = gateway.LeaseDuration / 3
)

// NewRunner initializes r and returns it. Nothing is processed until Run is called.
func NewRunner(r *Runner) *Runner {
	r.wake, r.active = make(chan struct{}, 1), map[string]int{}
	return r
}

// Wake makes r look for queues that are due. It never blocks.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run leases and processes queues until ctx ends. It then waits for the work in progress, whose
// context is hard.
func (r *Runner) Run(ctx, hard context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, r.Concurrency)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if r.start(ctx, hard, slots, &wg) > 0 {
			continue
		}
		select {
		case <-r.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// start leases queues for the free slots, begins to process them and returns their number.
func (r *Runner) start(ctx, hard context.Context, slots chan struct{}, wg *sync.WaitGroup) int {
	free := cap(slots) - len(slots)
	if free == 0 {
		return 0
	}
	leases, err := r.lease(hard, free)
	if err != nil {
		if ctx.Err() == nil {
			r.Log.WarnContext(ctx, "lease failed", "kind", r.Kind, "error", err)
			_ = adapters.Sleep(ctx, ErrorDelay) // Run checks ctx
		}
		return 0
	}
	for _, l := range leases {
		slots <- struct{}{}
		r.addActive(l, +1)
		wg.Go(func() {
			defer r.finish(l, slots)
			r.runLease(ctx, hard, l)
		})
	}
	return len(leases)
}

// lease leases queues for at most free slots. It ignores the end of Run's first context, because
// queues that are leased when the call is canceled would be blocked until the lease expires.
func (r *Runner) lease(hard context.Context, free int) ([]gateway.Lease, error) {
	n := min(free, maxLeases)
	if r.LimitPerInstance { // all of them may be of one instance
		n = min((free+1)/2, maxLeases)
	}
	ctx, cancel := context.WithTimeout(hard, leaseTimeout)
	defer cancel()
	return r.Store.Lease(ctx, r.Kind, r.Holder, n, r.excluded(free)...)
}

// finish frees the slot of a queue. It wakes r if the runner or the instance was at capacity, since
// queues may be due that were not leased for this reason.
func (r *Runner) finish(l gateway.Lease, slots chan struct{}) {
	free := cap(slots) - len(slots)
	full := free == 0 || r.LimitPerInstance && r.addActive(l, 0) >= free
	r.addActive(l, -1)
	<-slots
	if full {
		r.Wake()
	}
}

// excluded returns the instances of which as many queues are being processed as slots are free.
func (r *Runner) excluded(free int) (instances []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for instance, n := range r.active {
		if r.LimitPerInstance && n >= free {
			instances = append(instances, instance)
		}
	}
	return instances
}

// addActive adds delta to the number of queues of an instance that are being processed, and returns
// the sum.
func (r *Runner) addActive(l gateway.Lease, delta int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[l.InstanceID] += delta; r.active[l.InstanceID] > 0 {
		return r.active[l.InstanceID]
	}
	delete(r.active, l.InstanceID)
	return 0
}

// runLease processes a queue and releases its lease if that fails.
func (r *Runner) runLease(ctx, hard context.Context, l gateway.Lease) {
	err := r.processSafely(hard, l, NewSlice(ctx, sliceDuration))
	switch {
	case err == nil:
		return
	case errors.Is(err, gateway.ErrLeaseLost): // or what was processed was erased, and the lease is still held
		r.Log.InfoContext(hard, "lease lost", "kind", r.Kind, "conversation", l.ConversationID)
	case hard.Err() == nil:
		r.Log.ErrorContext(hard, "process queue failed", "kind", r.Kind, "conversation", l.ConversationID, "error", err)
	}
	r.release(ctx, hard, l)
}

// release releases a lease after a failure. While the store is unavailable it retries for as long as
// the lease may last, since otherwise the queue would stay blocked after the store has recovered.
func (r *Runner) release(ctx, hard context.Context, l gateway.Lease) {
	deadline := time.Now().Add(gateway.LeaseDuration)
	for {
		detached, cancel := gateway.DetachedContext(hard)
		next := time.Now().Add(ErrorDelay + rand.N(ErrorDelay))
		err := r.Store.Apply(detached, gateway.Commit{Lease: l, Release: true, Next: next})
		cancel()
		if err == nil || errors.Is(err, gateway.ErrLeaseLost) {
			return
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			r.Log.WarnContext(hard, "release lease failed",
				"kind", r.Kind, "conversation", l.ConversationID, "error", err)
			return
		}
		_ = adapters.Sleep(ctx, pollInterval) // if ctx ends, the next attempt is the last one
	}
}

// processSafely calls Process while it renews the lease. A panic is returned as an error.
func (r *Runner) processSafely(ctx context.Context, l gateway.Lease, slice Slice) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := r.renewPeriodically(ctx, l, cancel)
	defer timer.Stop()
	defer gateway.RecoverInto(&err)
	return r.Process(ctx, l, slice)
}

// renewPeriodically renews a lease until ctx ends or the returned timer is stopped. It calls cancel
// when the lease is lost.
func (r *Runner) renewPeriodically(ctx context.Context, l gateway.Lease, cancel context.CancelCauseFunc) *time.Timer {
	var timer *time.Timer
	ready := make(chan struct{}) // closed when timer is set
	timer = time.AfterFunc(renewInterval, func() {
		<-ready
		if ctx.Err() != nil {
			return
		}
		if err := r.Store.Apply(ctx, gateway.Commit{Lease: l}); errors.Is(err, gateway.ErrLeaseLost) {
			cancel(gateway.ErrLeaseLost)
			return
		}
		timer.Reset(renewInterval)
	})
	close(ready)
	return timer
}
