package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"hydragate/adapters"
)

// A Backpressure tells when no more is to be taken, so that providers wait in place of
// this program: too much waits to be worked, or the connections that store what comes
// are all taken. Nothing is counted when it is asked.
type Backpressure struct {
	Store BackpressureStore
	Limit int // messages that may wait; 0: MaxUnworked
	Log   *slog.Logger

	Metrics *Metrics // nil: not counted

	overloaded, poolExhausted atomic.Bool
}

// A BackpressureStore tells how hard a store has it.
type BackpressureStore interface {
	// Unworked counts messages that wait to be worked, but no further than most.
	CountUnprocessed(ctx context.Context, most int) (int, error)
	// Reach waits for a connection such as Take needs, and gives it back.
	Probe(ctx context.Context) error
}

const (
	// MaxUnprocessed is how many messages may wait to be worked.
	MaxUnprocessed = 50_000

	probeInterval = time.Second
	probeTimeout  = time.Second // the longest wait for a connection
)

// Active reports whether nothing more is to be taken now.
func (p *Backpressure) Active() bool {
	return p != nil && (p.overloaded.Load() || p.poolExhausted.Load())
}

// Run looks again and again until ctx ends.
func (p *Backpressure) Run(ctx context.Context) {
	for ctx.Err() == nil {
		p.probe(ctx)
		adapters.Sleep(ctx, probeInterval)
	}
}

func (p *Backpressure) probe(ctx context.Context) {
	was := p.Active()
	limit := p.Limit
	if limit == 0 {
		limit = MaxUnprocessed
	}
	within, cancel := context.WithTimeout(ctx, probeTimeout)
	err := p.Store.Probe(within)
	p.poolExhausted.Store(err != nil && errors.Is(within.Err(), context.DeadlineExceeded))
	cancel()
	within, cancel = context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if n, err := p.Store.CountUnprocessed(within, limit+1); err == nil {
		p.overloaded.Store(n > limit)
		p.Metrics.setUnprocessed(n)
	}
	if now := p.Active(); now != was && ctx.Err() == nil {
		p.Log.WarnContext(ctx, "pressure", "high", now, "crowded", p.overloaded.Load(), "starved", p.poolExhausted.Load())
	}
	p.Metrics.setBackpressure(p.Active())
}
