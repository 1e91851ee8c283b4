package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"hydragate/adapters"
)

// Backpressure reports when new messages must be refused, so that providers retry later: when too
// many messages wait to be processed, or when all connections for storing messages are in use.
type Backpressure struct {
	Store BackpressureStore
	Limit int // messages that may wait; 0 for MaxUnprocessed
	Log   *slog.Logger

	Metrics *Metrics // nil records nothing

	overloaded, poolExhausted atomic.Bool
}

// A BackpressureStore reports the load on the store.
type BackpressureStore interface {
	// CountUnprocessed returns the number of messages that wait to be processed, at most limit.
	CountUnprocessed(ctx context.Context, limit int) (int, error)
	// Probe acquires and releases a connection of the pool that InsertMessages uses.
	Probe(ctx context.Context) error
}

const (
	// MaxUnprocessed is the number of messages that may wait to be processed.
	MaxUnprocessed = 50_000

	probeInterval = time.Second
	probeTimeout  = time.Second // maximum wait for a connection
)

// Active reports whether new messages must be refused. It does not access the store.
func (p *Backpressure) Active() bool {
	return p != nil && (p.overloaded.Load() || p.poolExhausted.Load())
}

// Run probes the store periodically until ctx ends.
func (p *Backpressure) Run(ctx context.Context) {
	for ctx.Err() == nil {
		p.probe(ctx)
		_ = adapters.Sleep(ctx, probeInterval)
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
		p.Log.WarnContext(ctx, "backpressure changed", "active", now,
			"overloaded", p.overloaded.Load(), "pool_exhausted", p.poolExhausted.Load())
	}
	p.Metrics.setBackpressure(p.Active())
}
