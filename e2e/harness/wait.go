//go:build unix

package harness

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Eventually waits until condition returns true. It fails the test after two minutes.
func Eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(2 * time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("timeout: %s", what)
		}
	}
}

func sleepBriefly(ctx context.Context) {
	select {
	case <-time.After(15 * time.Millisecond):
	case <-ctx.Done():
	}
}

// EventTimeout is how long tests wait for an event. It is longer than a lease, so that work of a
// killed gateway is taken over.
const EventTimeout = 3 * time.Minute

// A Broadcast wakes up all waiters when something has changed. The zero value is ready to use.
type Broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// changed returns a channel that is closed by the next Notify.
func (b *Broadcast) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Notify wakes up all waiters.
func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// WaitFor waits until check returns nil. It calls check after each Notify, and every 100 ms. After the
// timeout it returns the last error of check.
func (b *Broadcast) WaitFor(timeout time.Duration, check func() error) error {
	expired, tick := time.After(timeout), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		changed := b.changed()
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-expired:
			return fmt.Errorf("after %s: %w", timeout, err)
		}
	}
}

// Concurrently calls f n times concurrently and returns the results.
func Concurrently[T any](n int, f func(i int) T) []T {
	out := make([]T, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			out[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return out
}
