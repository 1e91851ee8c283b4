package gateway

import (
	"time"

	"hydragate/adapters"
)

// A BackfillTask is the right to ask for one endpoint, for BackfillLease.
type BackfillTask struct {
	State     EndpointState
	Since     time.Time // the last time it was done, or when the endpoint was made
	FirstRun  bool      // it was never done
	StartedAt time.Time // now
	Failures  int       // since the last time it was done
}

const (
	// BackfillLeaseDuration is for how long one replica may ask for an endpoint.
	BackfillLeaseDuration = 10 * time.Minute
	backfillOverlap       = 10 * time.Minute // for clocks that differ, and messages still on their way
)

// FetchFrom is how far back a turn looks: to the last time and a little more, or to when
// the endpoint was made; never further than MaxAge and a little more.
func (t BackfillTask) FetchFrom() time.Time {
	since, first := t.Since, t.StartedAt.Add(-MaxOutage)
	if since.Before(first) {
		since = first
	}
	since = since.Add(-backfillOverlap)
	if t.FirstRun && since.Before(t.Since) {
		return t.Since // nothing said before it was connected
	}
	return since
}

// ErasedFunc tell whether a sender of a channel was erased at a time or after it.
type ErasedFunc func(channel adapters.Channel, externalID string, at time.Time) bool

const (
	// MaxOutage is how old a message may be that was spooled, and an endpoint that is used
	// without asking.
	MaxOutage = 24 * time.Hour
)
