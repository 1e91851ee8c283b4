package main

import (
	"syscall"
	"time"
)

// sleepUntil sleeps until t. It returns immediately if t has passed. The timers of the Go runtime are
// up to a millisecond late, which is too much here, so it uses a timer of the kernel for the end.
func sleepUntil(t time.Time) {
	const end = 2 * time.Millisecond
	if d := time.Until(t); d > end {
		time.Sleep(d - end) //nolint:forbidigo // the load is timed by the clock
	}
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // the loop continues after a signal
	}
}
