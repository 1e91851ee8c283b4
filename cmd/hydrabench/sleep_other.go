//go:build !linux

package main

import "time"

// sleepUntil returns soon after t, and at once when t is over.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
