package operation

import (
	"cmp"
	"net/netip"
	"sync"
	"time"
)

// FailuresPerMinute is the default limit of a FailureLimiter.
const FailuresPerMinute = 20

// maxTrackedNetworks bounds the memory of a FailureLimiter. When it is reached, all networks start
// with their full limit again.
const maxTrackedNetworks = 10_000

// A FailureLimiter limits failed authentications per client network. It decides only about requests
// that fail, so that others from the same network are never rejected. The zero value is usable; it
// must not be copied after first use.
type FailureLimiter struct {
	PerMinute int              // default: FailuresPerMinute
	Now       func() time.Time // default: time.Now

	mu       sync.Mutex
	networks map[netip.Prefix]*failureBudget
}

// A failureBudget is the number of failures that are left to a network.
type failureBudget struct {
	left float64
	at   time.Time
}

// Take counts a failure of a network. It reports whether the failure is within the limit.
func (f *FailureLimiter) Take(network netip.Prefix) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.budget(network)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// Return takes back a failure that Take counted before the authentication succeeded.
func (f *FailureLimiter) Return(network netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.budget(network)
	b.left = min(b.left+1, f.limit())
}

// Wait returns the time after which a failure of a network is within the limit again.
func (f *FailureLimiter) Wait(network netip.Prefix) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	missing := max(0, 1-f.budget(network).left)
	return time.Duration(missing / f.limit() * float64(time.Minute))
}

func (f *FailureLimiter) limit() float64 { return float64(cmp.Or(f.PerMinute, FailuresPerMinute)) }

// budget returns the budget of a network at this time.
func (f *FailureLimiter) budget(network netip.Prefix) *failureBudget {
	now := time.Now()
	if f.Now != nil {
		now = f.Now()
	}
	b := f.networks[network]
	if b == nil {
		if f.networks == nil || len(f.networks) >= maxTrackedNetworks {
			f.networks = map[netip.Prefix]*failureBudget{}
		}
		b = &failureBudget{left: f.limit()}
		f.networks[network] = b
	} else {
		b.left = min(b.left+max(0, now.Sub(b.at).Minutes())*f.limit(), f.limit())
	}
	b.at = now
	return b
}
