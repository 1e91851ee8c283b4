//go:build unix

package harness

import (
	"context"
	"sync"
	"testing"
	"time"
)

// A Background is a group of functions that run repeatedly beside a test.
type Background struct {
	Ctx context.Context // ends with Stop

	t      *testing.T
	cancel func()
	all    sync.WaitGroup
}

// NewBackground returns a group that runs until Stop is called, or else until the test ends.
func NewBackground(t *testing.T) *Background {
	b := &Background{t: t}
	b.Ctx, b.cancel = context.WithCancel(t.Context())
	t.Cleanup(b.Stop)
	return b
}

// Repeat calls do in each interval. If do returns an error before Stop, the test fails and do is not
// called again.
func (b *Background) Repeat(interval time.Duration, do func() error) {
	b.all.Go(func() {
		for b.Sleep(interval) {
			if err := do(); err != nil && b.Ctx.Err() == nil {
				b.t.Error(err)
				return
			}
		}
	})
}

// Sleep reports whether Stop has not been called after d.
func (b *Background) Sleep(d time.Duration) bool {
	EveryInterval(d)(b.Ctx, 0)
	return b.Ctx.Err() == nil
}

// Stop ends the group and waits for the functions.
func (b *Background) Stop() {
	b.cancel()
	b.all.Wait()
}
