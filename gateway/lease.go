package gateway

import "time"

// PollLeaseDuration is how long the lease of a poller lasts unless it is renewed.
const PollLeaseDuration = 10 * time.Second

// A Cursor is a poller's position in the messages of a channel. It is stored in the same transaction
// as the messages before it, and only if the epoch of the poller's lease is current.
type Cursor struct {
	EndpointID string
	TenantID   string
	Holder     string
	Epoch      int64
	Value      string
}

// A QueueKind is one of the three kinds of queue that each conversation has. The items of a queue
// are processed in order, by one holder of a lease at a time.
type QueueKind string

// The kinds of queue.
const (
	InboxQueue    QueueKind = "inbox"    // messages to be processed
	DeliveryQueue QueueKind = "delivery" // events to be delivered to the application
	OutboxQueue   QueueKind = "outbox"   // replies to be sent
)

// A Lease is the exclusive right to process a queue of a conversation until the lease expires. A
// write under a lease fails with ErrLeaseLost if another process has leased the queue since.
type Lease struct {
	TenantID       string
	InstanceID     string
	ConversationID string
	Kind           QueueKind
	Holder         string
	Epoch          int64
	Wakes          int64 // how many times work had been announced when the lease began
}

// LeaseDuration is how long a lease lasts unless it is renewed. It is also how long the queues of a
// process that died are blocked: together with the time until another process leases a queue and
// does the work, this is less than fifteen seconds.
const LeaseDuration = 12 * time.Second

// FetchLimit is the maximum number of items that are read from a queue at a time. If that many are
// returned, there may be more. It is the maximum number of messages in one event as well, so that an
// event is always read completely.
const FetchLimit = 20
