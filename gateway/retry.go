package gateway

import (
	"time"

	"hydragate/adapters"
)

// KeyRetryDelay is the delay before work is retried that needs a master key which this process does
// not have. Another process may have it.
const KeyRetryDelay = 10 * time.Second

// SetupBackoff returns the policy for the set-up of endpoints and for back-fills: 10 to 12.5 seconds
// at first, then twice as long after each failure, up to 8 to 10 minutes. The jitter spreads the
// endpoints, and the replicas.
func SetupBackoff() adapters.BackoffPolicy {
	return adapters.BackoffPolicy{Initial: 11250 * time.Millisecond, Max: 9 * time.Minute, Multiplier: 2, Jitter: 1.0 / 9}
}
