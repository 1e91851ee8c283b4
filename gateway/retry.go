package gateway

import (
	"math/rand/v2"
	"time"
)

const (
	KeyRetryDelay = 10 * time.Second // before what needs a master key that is not here is looked at again
)

const (
	MinBackoff = 10 * time.Second
	MaxBackoff = 8 * time.Minute // before jitter, which adds up to a quarter
)

// Backoff gives how long to wait after so many failures: 10 seconds at first, 10
// minutes at most, never two replicas' seats in step.
func Backoff(failures int) time.Duration {
	d := MaxBackoff
	if failures < 6 {
		d = min(d, MinBackoff<<failures)
	}
	return d + rand.N(d/4)
}
