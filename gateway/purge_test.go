package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A countingPurgeStore counts calls. They fail, which must not end the Purger.
type countingPurgeStore struct{ purges, scrubs atomic.Int64 }

var errPurge = errors.New("database unavailable")

func (s *countingPurgeStore) Purge(context.Context) (int64, error) {
	s.purges.Add(1)
	return 0, errPurge
}

func (s *countingPurgeStore) Scrub(context.Context) error {
	s.scrubs.Add(1)
	return errPurge
}

// TestPurger_Intervals tests that the files are scrubbed soon after the start and then every minute, and
// that rows are purged every ten minutes and scrubbed right after.
func TestPurger_Intervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		s := &countingPurgeStore{}
		go (&Purger{Store: s, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
		for _, want := range []struct {
			wait           time.Duration
			scrubs, purges int64
		}{
			{9 * time.Second, 0, 0},
			{2 * time.Second, 1, 0},
			{time.Minute, 2, 0},
			{9 * time.Minute, 11, 1},
			{10 * time.Minute, 21, 2},
		} {
			<-time.After(want.wait)
			synctest.Wait()
			if scrubs, purges := s.scrubs.Load(), s.purges.Load(); scrubs != want.scrubs || purges != want.purges {
				t.Errorf("%v later: %d scrubs and %d purges, want %d and %d", want.wait, scrubs, purges, want.scrubs,
					want.purges)
			}
		}
		stop()
		synctest.Wait()
	})
}
