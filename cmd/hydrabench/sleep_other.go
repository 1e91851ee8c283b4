//go:build !linux

package main

import "time"

// sleepUntil sleeps until t. It returns immediately if t has passed.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) } //nolint:forbidigo // the load is timed by the clock
