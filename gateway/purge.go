package gateway

import (
	"context"
	"log/slog"
	"time"

	"hydragate/adapters"
)

// A Purger removes what has served its time, once in a while. Replicas may sweep at
// the same time.
type Purger struct {
	Store PurgeStore
	Log   *slog.Logger
}

// A PurgeStore removes rows that nobody needs any more, some at a time; it gives how
// many there were.
type PurgeStore interface {
	Purge(ctx context.Context) (int64, error)
}

const purgeInterval = 10 * time.Minute

// Run sweeps until ctx ends.
func (s *Purger) Run(ctx context.Context) {
	for {
		adapters.Sleep(ctx, purgeInterval)
		if ctx.Err() != nil {
			return
		}
		n, err := s.Store.Purge(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.WarnContext(ctx, "sweep", "error", err)
		case n > 0:
			s.Log.InfoContext(ctx, "sweep", "rows", n)
		}
	}
}
