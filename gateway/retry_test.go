package gateway

import (
	"slices"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	var waits []time.Duration
	for n := range 100 {
		waits = append(waits, Backoff(n))
	}
	if slices.Min(waits) < 10*time.Second || slices.Max(waits) > 10*time.Minute || waits[99] < 8*time.Minute {
		t.Errorf("waits from %v to %v, in the end %v", slices.Min(waits), slices.Max(waits), waits[99])
	}
}
