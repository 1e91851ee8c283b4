package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"hydragate/adapters"
)

// A Pressure tells when no more is to be taken, so that providers wait in place of
// this program: too much waits to be worked, or the connections that store what comes
// are all taken. Nothing is counted when it is asked.
type Pressure struct {
	Store PressureStore
	Limit int // messages that may wait; 0: MaxUnworked
	Log   *slog.Logger

	crowded, starved atomic.Bool
}

// A PressureStore tells how hard a store has it.
type PressureStore interface {
	// Unworked counts messages that wait to be worked, but no further than most.
	Unworked(ctx context.Context, most int) (int, error)
	// Reach waits for a connection such as Take needs, and gives it back.
	Reach(ctx context.Context) error
}

const (
	// MaxUnworked is how many messages may wait to be worked.
	MaxUnworked = 50_000

	pressureTick = time.Second
	starvation   = time.Second // the longest wait for a connection
)

// High reports whether nothing more is to be taken now.
func (p *Pressure) High() bool { return p != nil && (p.crowded.Load() || p.starved.Load()) }

// Run looks again and again until ctx ends.
func (p *Pressure) Run(ctx context.Context) {
	for ctx.Err() == nil {
		p.look(ctx)
		adapters.Rest(ctx, pressureTick)
	}
}

func (p *Pressure) look(ctx context.Context) {
	was := p.High()
	limit := p.Limit
	if limit == 0 {
		limit = MaxUnworked
	}
	within, cancel := context.WithTimeout(ctx, starvation)
	err := p.Store.Reach(within)
	p.starved.Store(err != nil && errors.Is(within.Err(), context.DeadlineExceeded))
	cancel()
	within, cancel = context.WithTimeout(ctx, starvation)
	defer cancel()
	if n, err := p.Store.Unworked(within, limit+1); err == nil {
		p.crowded.Store(n > limit)
		unworked.Set(float64(n))
	}
	if now := p.High(); now != was && ctx.Err() == nil {
		p.Log.WarnContext(ctx, "pressure", "high", now, "crowded", p.crowded.Load(), "starved", p.starved.Load())
	}
	pressure.Set(0)
	if p.High() {
		pressure.Set(1)
	}
}
