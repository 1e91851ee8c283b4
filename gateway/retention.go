package gateway

import (
	"context"
	"log/slog"
	"time"

	"hydragate/adapters"
)

// A Retention removes what has served its time, once in a while. Replicas may sweep at
// the same time.
type Retention struct {
	Store SweepStore
	Log   *slog.Logger
}

// A SweepStore removes rows that nobody needs any more, some at a time; it gives how
// many there were.
type SweepStore interface {
	Sweep(ctx context.Context) (int64, error)
}

const sweepEvery = 10 * time.Minute

// Run sweeps until ctx ends.
func (s *Retention) Run(ctx context.Context) {
	for {
		adapters.Rest(ctx, sweepEvery)
		if ctx.Err() != nil {
			return
		}
		n, err := s.Store.Sweep(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.WarnContext(ctx, "sweep", "error", err)
		case n > 0:
			s.Log.InfoContext(ctx, "sweep", "rows", n)
		}
	}
}
