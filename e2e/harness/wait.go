package harness

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Eventually waits until is says so, for as long as a busy machine may take.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not so within two minutes: %s", what)
		}
	}
}

func sleepBriefly(ctx context.Context) {
	select {
	case <-time.After(15 * time.Millisecond):
	case <-ctx.Done():
	}
}

// EventTimeout is how long a script waits for anything that has no limit of its own: for
// longer than a conversation is held by a gateway that died.
const EventTimeout = 70 * time.Second

// A Broadcast tells everybody who listens that something changed. The zero value is ready.
type Broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// changed gives a channel that is closed when the bell is rung next.
func (b *Broadcast) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// WaitFor waits for done, looking again whenever the bell rings, and now and then for
// what rings no bell. After within it gives the error that done gave last.
func (b *Broadcast) WaitFor(within time.Duration, done func() error) error {
	over, again := time.After(within), time.NewTicker(100*time.Millisecond)
	defer again.Stop()
	for {
		rung := b.changed()
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-rung:
		case <-again.C:
		case <-over:
			return fmt.Errorf("after %s: %w", within, err)
		}
	}
}

// Concurrently runs f n times at the same time and gives what each gave.
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
