package queue

import (
	"context"
	"time"
)

// A Slice limits how long the holder of a lease may go on to process a queue, so that other queues
// get their share and the process can stop.
type Slice struct {
	stopping <-chan struct{}
	deadline time.Time
}

// NewSlice returns a slice that expires after d, or when stopping ends.
func NewSlice(stopping context.Context, d time.Duration) Slice {
	return Slice{stopping.Done(), time.Now().Add(d)}
}

// Expired reports whether the lease should be released before the next item.
func (s Slice) Expired() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return time.Now().After(s.deadline)
	}
}
