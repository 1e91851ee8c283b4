package main

import (
	"syscall"
	"time"
)

// sleepUntil returns as soon after t as the kernel can, and at once when t is over.
// The timers of the runtime are up to a millisecond late, which is too much where
// single milliseconds are measured: so the end of the wait is the kernel's.
func sleepUntil(t time.Time) {
	const end = 2 * time.Millisecond
	if d := time.Until(t); d > end {
		time.Sleep(d - end)
	}
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // when interrupted, the rest is slept
	}
}
