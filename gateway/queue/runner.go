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

// Runner work one kind of lane: they lease what is due, work each lane in a goroutine
// of its own, and look again when woken, when a lane ends, and once in a while by
// themselves, since a word from another process may be lost.
type Runner struct {
	Kind        gateway.QueueKind
	Store       LeaseStore
	Holder      string // of this process, unique
	Concurrency int    // lanes worked at once
	Log         *slog.Logger

	// Work works one lane and gives it back with its last settlement. Between two pieces
	// of work it asks turn whether to go on, and gives the lane back when not. When it
	// fails, the lane is given back for it and looked at again soon.
	Process func(ctx context.Context, l gateway.Lease, turn Slice) error

	// Shared says that the work waits for somebody outside. An instance then has no more
	// lanes in work than are free for others: when whoever it waits for is slow, its lanes
	// wait in the store, and nobody else's do.
	LimitPerInstance bool

	wake chan struct{}

	mu     sync.Mutex
	active map[string]int // by instance
}

// A LeaseStore hands out lanes and takes them back; see store.Store.
type LeaseStore interface {
	// Lease takes at most n lanes that are due, none of the instances to be spared.
	Lease(ctx context.Context, kind gateway.QueueKind, holder string, n int, spared ...string) ([]gateway.Lease, error)
	Apply(ctx context.Context, s gateway.Commit) error
}

const (
	pollInterval  = 500 * time.Millisecond
	ErrorDelay    = time.Second
	leaseTimeout  = 5 * time.Second
	maxLeases     = 32 // lanes in one look
	sliceDuration = 30 * time.Second
)

// NewRunner makes Lanes; Run must run for anything to happen.
func NewRunner(l *Runner) *Runner {
	l.wake, l.active = make(chan struct{}, 1), map[string]int{}
	return l
}

// Wake says that there may be work. It never blocks.
func (p *Runner) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the pieces in work, which run under hard.
func (p *Runner) Run(ctx, hard context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, p.Concurrency)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		room := p.Concurrency - len(free)
		n := 0
		if room > 0 {
			n = p.lease(ctx, hard, room, free, &wg)
		}
		if n > 0 {
			continue
		}
		select {
		case <-p.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lease starts the work of lanes for which there is room and gives how many it started.
func (p *Runner) lease(ctx, hard context.Context, room int, free chan struct{}, wg *sync.WaitGroup) int {
	n := min(room, maxLeases)
	if p.LimitPerInstance { // all of these may be of one instance
		n = min((room+1)/2, maxLeases)
	}
	// Not cut off by the end of ctx: what is leased unseen would lie still until the lease
	// runs out.
	asked, cancel := context.WithTimeout(hard, leaseTimeout)
	leases, err := p.Store.Lease(asked, p.Kind, p.Holder, n, p.excluded(room)...)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "no lanes", "kind", p.Kind, "error", err)
			adapters.Sleep(ctx, ErrorDelay)
		}
		return 0
	}
	for _, l := range leases {
		free <- struct{}{}
		p.addActive(l, +1)
		wg.Go(func() {
			defer func() {
				full := len(free) == cap(free) || p.LimitPerInstance && p.addActive(l, 0) >= cap(free)-len(free)
				p.addActive(l, -1)
				<-free
				if full {
					p.Wake()
				}
			}()
			p.runLease(ctx, hard, l)
		})
	}
	return len(leases)
}

// excluded gives the instances that have as many lanes in work as there is room for others.
func (p *Runner) excluded(room int) (instances []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for instance, n := range p.active {
		if p.LimitPerInstance && n >= room {
			instances = append(instances, instance)
		}
	}
	return instances
}

// addActive counts the lanes of an instance that are in work.
func (p *Runner) addActive(l gateway.Lease, more int) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active[l.InstanceID] += more; p.active[l.InstanceID] > 0 {
		return p.active[l.InstanceID]
	}
	delete(p.active, l.InstanceID)
	return 0
}

func (p *Runner) runLease(ctx, hard context.Context, l gateway.Lease) {
	err := p.processSafely(hard, l, NewSlice(ctx, sliceDuration))
	switch {
	case err == nil:
		return
	case errors.Is(err, gateway.ErrLeaseLost):
		p.Log.InfoContext(hard, "lease lost", "kind", p.Kind, "conversation", l.ConversationID)
		return
	case hard.Err() == nil:
		p.Log.ErrorContext(hard, "lane not worked", "kind", p.Kind, "conversation", l.ConversationID, "error", err)
	}
	p.release(ctx, hard, l)
}

// release gives a lane back that was not worked to its end. While the store does not
// answer it is tried again, for as long as the lease may hold: otherwise the lane would
// lie still for the rest of that time after the store is back.
func (p *Runner) release(ctx, hard context.Context, l gateway.Lease) {
	for over := time.Now().Add(gateway.LeaseDuration); ; adapters.Sleep(ctx, pollInterval) {
		back, cancel := gateway.DetachedContext(hard)
		err := p.Store.Apply(back, gateway.Commit{Lease: l, Release: true, Next: time.Now().Add(ErrorDelay + rand.N(ErrorDelay))})
		cancel()
		if err == nil || errors.Is(err, gateway.ErrLeaseLost) {
			return
		}
		if ctx.Err() != nil || time.Now().After(over) {
			p.Log.WarnContext(hard, "lane not given back", "kind", p.Kind, "conversation", l.ConversationID, "error", err)
			return
		}
	}
}

// processSafely works a lane and renews its lease meanwhile; a panic is an error like any other.
func (p *Runner) processSafely(ctx context.Context, l gateway.Lease, turn Slice) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beat := p.renew(ctx, l, stop)
	defer beat.Stop()
	defer gateway.RecoverInto(&err)
	return p.Process(ctx, l, turn)
}

// renew keeps the lease of a lane while one piece of work takes long, and ends the work
// when the lane has another holder.
func (p *Runner) renew(ctx context.Context, l gateway.Lease, stop context.CancelCauseFunc) *time.Timer {
	var beat *time.Timer
	ready := make(chan struct{})
	beat = time.AfterFunc(gateway.LeaseDuration/3, func() {
		<-ready
		if ctx.Err() != nil {
			return
		}
		if err := p.Store.Apply(ctx, gateway.Commit{Lease: l}); errors.Is(err, gateway.ErrLeaseLost) {
			stop(gateway.ErrLeaseLost)
			return
		}
		beat.Reset(gateway.LeaseDuration / 3)
	})
	close(ready)
	return beat
}
