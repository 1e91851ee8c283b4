package gateway

import (
	"context"
	"log/slog"
	"time"

	"hydragate/adapters"
)

// A Purger periodically deletes rows that are past their retention period. Several replicas may
// purge concurrently.
type Purger struct {
	Store PurgeStore
	Log   *slog.Logger
}

// A PurgeStore deletes rows that are past their retention period.
type PurgeStore interface {
	// Purge deletes expired rows in batches and returns how many it deleted.
	Purge(ctx context.Context) (int64, error)
}

const purgeInterval = 10 * time.Minute

// Run purges every ten minutes until ctx ends.
func (p *Purger) Run(ctx context.Context) {
	for {
		if adapters.Sleep(ctx, purgeInterval) != nil {
			return
		}
		n, err := p.Store.Purge(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			p.Log.WarnContext(ctx, "purge failed", "error", err)
		case n > 0:
			p.Log.InfoContext(ctx, "purge completed", "rows", n)
		}
	}
}
