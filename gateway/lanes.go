package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"hydragate/adapters"
)

// Lanes work one kind of lane: they lease what is due, work each lane in a goroutine
// of its own, and look again when woken, when a lane ends, and once in a while by
// themselves, since a word from another process may be lost.
type Lanes struct {
	Kind   LaneKind
	Store  Leaser
	Holder string // of this process, unique
	Size   int    // lanes worked at once
	Log    *slog.Logger

	// Work works one lane and gives it back with its last settlement. Between two pieces
	// of work it asks turn whether to go on, and gives the lane back when not. When it
	// fails, the lane is given back for it and looked at again soon.
	Work func(ctx context.Context, l Lease, turn Turn) error

	// Shared says that the work waits for somebody outside. An instance then has no more
	// lanes in work than are free for others: when whoever it waits for is slow, its lanes
	// wait in the store, and nobody else's do.
	Shared bool

	wake chan struct{}

	mu     sync.Mutex
	inWork map[string]int // by instance
}

// A Leaser hands out lanes and takes them back; see store.Store.
type Leaser interface {
	// Lease takes at most n lanes that are due, none of the instances to be spared.
	Lease(ctx context.Context, kind LaneKind, holder string, n int, spared ...string) ([]Lease, error)
	Settle(ctx context.Context, s Settlement) error
}

// A Turn says whether a holder may begin another piece of work: not for ever, so that
// other lanes get theirs, and not when the process is to end.
type Turn struct {
	stopping context.Context
	until    time.Time
}

// NewTurn gives a turn that is over after so long, or when stopping ends.
func NewTurn(stopping context.Context, d time.Duration) Turn {
	return Turn{stopping, time.Now().Add(d)}
}

// Over reports whether the lane is to be given back.
func (t Turn) Over() bool { return t.stopping.Err() != nil || time.Now().After(t.until) }

const (
	idlePoll  = 500 * time.Millisecond
	faultWait = time.Second
	leaseWait = 5 * time.Second
	leaseMost = 32 // lanes in one look
	turnTime  = 30 * time.Second
)

// NewLanes makes Lanes; Run must run for anything to happen.
func NewLanes(l *Lanes) *Lanes {
	l.wake, l.inWork = make(chan struct{}, 1), map[string]int{}
	return l
}

// Wake says that there may be work. It never blocks.
func (p *Lanes) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the pieces in work, which run under hard.
func (p *Lanes) Run(ctx, hard context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, p.Size)
	tick := time.NewTicker(idlePoll)
	defer tick.Stop()
	for ctx.Err() == nil {
		room := p.Size - len(free)
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
func (p *Lanes) lease(ctx, hard context.Context, room int, free chan struct{}, wg *sync.WaitGroup) int {
	n := min(room, leaseMost)
	if p.Shared { // all of these may be of one instance
		n = min((room+1)/2, leaseMost)
	}
	// Not cut off by the end of ctx: what is leased unseen would lie still until the lease
	// runs out.
	asked, cancel := context.WithTimeout(hard, leaseWait)
	leases, err := p.Store.Lease(asked, p.Kind, p.Holder, n, p.spared(room)...)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "no lanes", "kind", p.Kind, "error", err)
			adapters.Rest(ctx, faultWait)
		}
		return 0
	}
	for _, l := range leases {
		free <- struct{}{}
		p.count(l, +1)
		wg.Go(func() {
			defer func() {
				full := len(free) == cap(free) || p.Shared && p.count(l, 0) >= cap(free)-len(free)
				p.count(l, -1)
				<-free
				if full {
					p.Wake()
				}
			}()
			p.work(ctx, hard, l)
		})
	}
	return len(leases)
}

// spared gives the instances that have as many lanes in work as there is room for others.
func (p *Lanes) spared(room int) (instances []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for instance, n := range p.inWork {
		if p.Shared && n >= room {
			instances = append(instances, instance)
		}
	}
	return instances
}

// count counts the lanes of an instance that are in work.
func (p *Lanes) count(l Lease, more int) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inWork[l.InstanceID] += more; p.inWork[l.InstanceID] > 0 {
		return p.inWork[l.InstanceID]
	}
	delete(p.inWork, l.InstanceID)
	return 0
}

func (p *Lanes) work(ctx, hard context.Context, l Lease) {
	err := p.try(hard, l, NewTurn(ctx, turnTime))
	switch {
	case err == nil:
		return
	case errors.Is(err, ErrLeaseLost):
		p.Log.InfoContext(hard, "lease lost", "kind", p.Kind, "conversation", l.ConversationID)
		return
	case hard.Err() == nil:
		p.Log.ErrorContext(hard, "lane not worked", "kind", p.Kind, "conversation", l.ConversationID, "error", err)
	}
	p.giveBack(ctx, hard, l)
}

// giveBack gives a lane back that was not worked to its end. While the store does not
// answer it is tried again, for as long as the lease may hold: otherwise the lane would
// lie still for the rest of that time after the store is back.
func (p *Lanes) giveBack(ctx, hard context.Context, l Lease) {
	for over := time.Now().Add(LeaseTime); ; adapters.Rest(ctx, idlePoll) {
		back, cancel := outlive(hard)
		err := p.Store.Settle(back, Settlement{Lease: l, Release: true, Next: time.Now().Add(faultWait + rand.N(faultWait))})
		cancel()
		if err == nil || errors.Is(err, ErrLeaseLost) {
			return
		}
		if ctx.Err() != nil || time.Now().After(over) {
			p.Log.WarnContext(hard, "lane not given back", "kind", p.Kind, "conversation", l.ConversationID, "error", err)
			return
		}
	}
}

// try works a lane and renews its lease meanwhile; a panic is an error like any other.
func (p *Lanes) try(ctx context.Context, l Lease, turn Turn) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beat := p.renew(ctx, l, stop)
	defer beat.Stop()
	defer caught(&err)
	return p.Work(ctx, l, turn)
}

// renew keeps the lease of a lane while one piece of work takes long, and ends the work
// when the lane has another holder.
func (p *Lanes) renew(ctx context.Context, l Lease, stop context.CancelCauseFunc) *time.Timer {
	var beat *time.Timer
	ready := make(chan struct{})
	beat = time.AfterFunc(LeaseTime/3, func() {
		<-ready
		if ctx.Err() != nil {
			return
		}
		if err := p.Store.Settle(ctx, Settlement{Lease: l}); errors.Is(err, ErrLeaseLost) {
			stop(ErrLeaseLost)
			return
		}
		beat.Reset(LeaseTime / 3)
	})
	close(ready)
	return beat
}
