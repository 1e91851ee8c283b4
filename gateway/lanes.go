package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
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

	// Work works one lane; what it does not settle is leased again when the lease runs
	// out.
	Work func(ctx context.Context, l Lease) error

	wake chan struct{}
}

// A Leaser hands out lanes; see store.Store.Lease.
type Leaser interface {
	Lease(ctx context.Context, kind LaneKind, holder string, n int) ([]Lease, error)
}

const (
	idlePoll  = 500 * time.Millisecond
	faultWait = time.Second
	leaseMost = 32 // lanes in one look
)

// NewLanes makes Lanes; Run must run for anything to happen.
func NewLanes(l Lanes) *Lanes {
	l.wake = make(chan struct{}, 1)
	return &l
}

// Wake says that there may be work. It never blocks.
func (p *Lanes) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the lanes in work. Work begun is given
// until ctx's own deadline to end well: it runs under hard.
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
			n = p.lease(ctx, hard, min(room, leaseMost), free, &wg)
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

// lease starts the work of at most n lanes and gives how many it started.
func (p *Lanes) lease(ctx, hard context.Context, n int, free chan struct{}, wg *sync.WaitGroup) int {
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	leases, err := p.Store.Lease(asked, p.Kind, p.Holder, n)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "no lanes", "kind", p.Kind, "error", err)
			pause(ctx, faultWait)
		}
		return 0
	}
	for _, l := range leases {
		free <- struct{}{}
		wg.Go(func() {
			defer func() {
				full := len(free) == cap(free)
				<-free
				if full {
					p.Wake()
				}
			}()
			p.work(hard, l)
		})
	}
	return len(leases)
}

func (p *Lanes) work(ctx context.Context, l Lease) {
	defer func() {
		if r := recover(); r != nil {
			p.Log.ErrorContext(ctx, "panic", "kind", p.Kind, "conversation", l.ConversationID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, LeaseTime-5*time.Second)
	defer cancel()
	switch err := p.Work(ctx, l); {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, ErrLeaseLost):
		p.Log.InfoContext(ctx, "lease lost", "kind", p.Kind, "conversation", l.ConversationID)
	default:
		p.Log.ErrorContext(ctx, "lane not worked", "kind", p.Kind, "conversation", l.ConversationID, "error", err)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
