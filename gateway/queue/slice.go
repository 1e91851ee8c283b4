package queue

import (
	"context"
	"time"
)

// A Slice says whether a holder may begin another piece of work: not for ever, so that
// other lanes get theirs, and not when the process is to end.
type Slice struct {
	stopping context.Context
	until    time.Time
}

// NewSlice gives a turn that is over after so long, or when stopping ends.
func NewSlice(stopping context.Context, d time.Duration) Slice {
	return Slice{stopping, time.Now().Add(d)}
}

// Expired reports whether the lane is to be given back.
func (t Slice) Expired() bool { return t.stopping.Err() != nil || time.Now().After(t.until) }
