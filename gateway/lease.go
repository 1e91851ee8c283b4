package gateway

import (
	"time"
)

const (
	// PollLeaseDuration is how long a poller's lease holds without being renewed.
	PollLeaseDuration = 10 * time.Second
)

// A Cursor moves a poller's place in its channel together with the messages before
// it, or not at all. It is fenced by the epoch of the poller's lease.
type Cursor struct {
	EndpointID string
	TenantID   string
	Holder     string
	Epoch      int64
	Value      string
}

// A QueueKind is one of the three kinds of work of a conversation, each in order and
// by one holder at a time.
type QueueKind string

// The kinds of lane.
const (
	InboxQueue    QueueKind = "inbox"    // messages to be worked
	DeliveryQueue QueueKind = "delivery" // events to be posted to the agent runtime
	OutboxQueue   QueueKind = "outbox"   // replies to be sent
)

// A Lease is the right to work one lane until it runs out. Every write under it is
// refused once another holder has taken the lane.
type Lease struct {
	TenantID       string
	InstanceID     string
	ConversationID string
	Kind           QueueKind
	Holder         string
	Epoch          int64
	Wakes          int64 // how often work was announced before the lease
}

// LeaseDuration is how long a lease holds without being renewed: how long the work of a
// process that died lies still. Who works renews it, with each piece and while one
// takes long. With the time until somebody looks, and does the work, it is less than
// fifteen seconds.
const LeaseDuration = 12 * time.Second

// FetchLimit is how many pieces of work of one lane are read at a time: when there are
// so many there may be more.
const FetchLimit = 16
