package gateway

import (
	"time"

	"hydragate/adapters"
)

// A BackfillTask is the lease to back-fill one endpoint. It lasts for BackfillLeaseDuration.
type BackfillTask struct {
	State     EndpointState
	Since     time.Time // of the last successful back-fill, or of the creation of the endpoint
	FirstRun  bool      // the endpoint was never back-filled
	StartedAt time.Time // start of this back-fill
	Failures  int       // failed attempts since the last successful back-fill
}

const (
	// BackfillLeaseDuration is how long one replica may back-fill an endpoint.
	BackfillLeaseDuration = 10 * time.Minute
	// backfillOverlap allows for clock skew and for messages that the provider logs late.
	backfillOverlap = 10 * time.Minute
)

// FetchFrom returns the time from which messages are fetched: that of the last successful back-fill,
// but at most MaxOutage ago, less an overlap. The first back-fill does not go back beyond the
// creation of the endpoint.
func (t BackfillTask) FetchFrom() time.Time {
	since, first := t.Since, t.StartedAt.Add(-MaxOutage)
	if since.Before(first) {
		since = first
	}
	since = since.Add(-backfillOverlap)
	if t.FirstRun && since.Before(t.Since) {
		return t.Since
	}
	return since
}

// An ErasedFunc reports whether a sender on a channel was erased at the given time or later.
type ErasedFunc func(channel adapters.Channel, externalID string, at time.Time) bool

// MaxOutage is the longest outage of the database that is bridged: the maximum age of a spooled
// message, and of a cached endpoint that is used while the store is unavailable.
const MaxOutage = 24 * time.Hour
