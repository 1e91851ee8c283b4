package main

import (
	"syscall"
	"time"
)

// sleepUntil returns as soon after t as the kernel can. The timers of the runtime are
// up to a millisecond late, which is too much where single milliseconds are measured.
func sleepUntil(t time.Time) {
	if d := time.Until(t) - 2*time.Millisecond; d > 0 {
		time.Sleep(d)
	}
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // when interrupted, the rest is slept
	}
}
