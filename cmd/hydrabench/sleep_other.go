//go:build !linux

package main

import "time"

// sleepUntil returns soon after t.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
