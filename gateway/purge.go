package gateway

import (
	"context"
	"log/slog"
	"time"

	"hydragate/adapters"
)

// A Purger periodically deletes rows that are past their retention period, and removes deleted data
// from the files of the database. Several replicas may purge concurrently.
type Purger struct {
	Store PurgeStore
	Log   *slog.Logger
}

// A PurgeStore deletes rows that are past their retention period.
type PurgeStore interface {
	// Purge deletes expired rows in batches and returns how many it deleted.
	Purge(ctx context.Context) (int64, error)
	// Scrub makes deleted data unreadable in the files of the database.
	Scrub(ctx context.Context) error
}

const (
	scrubInterval   = time.Minute
	scrubsPerPurge  = 10
	firstScrubDelay = 10 * time.Second
)

// Run scrubs every minute and purges every ten minutes until ctx ends. The first scrub, soon after
// the start, makes up for one that the end of the previous process prevented.
func (p *Purger) Run(ctx context.Context) {
	if adapters.Sleep(ctx, firstScrubDelay) != nil {
		return
	}
	for n := 1; ; n++ {
		p.scrub(ctx)
		if adapters.Sleep(ctx, scrubInterval) != nil {
			return
		}
		if n%scrubsPerPurge == 0 {
			p.purge(ctx)
		}
	}
}

func (p *Purger) purge(ctx context.Context) {
	n, err := p.Store.Purge(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		p.Log.WarnContext(ctx, "purge failed", "error", err)
	case n > 0:
		p.Log.InfoContext(ctx, "purge completed", "rows", n)
	}
}

func (p *Purger) scrub(ctx context.Context) {
	started := time.Now()
	err := p.Store.Scrub(ctx)
	took := time.Since(started)
	switch {
	case err != nil && ctx.Err() == nil:
		p.Log.WarnContext(ctx, "scrub failed, erased data may be readable in the database file until it succeeds",
			"error", err)
	case took > time.Second:
		p.Log.InfoContext(ctx, "scrub completed", "took_ms", took.Milliseconds())
	}
}
