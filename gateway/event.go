package gateway

import (
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// An EventType is a type of events that applications receive.
type EventType string

// The types of events.
const (
	MessageReceived  EventType = "message.received"
	IdentityVerified EventType = "identity.verified"
	IdentityOptedOut EventType = "identity.opted_out" // the person unsubscribed, or the provider reported it
	IdentityOptedIn  EventType = "identity.opted_in"  // the person subscribed again
)

// AllEventTypes returns all types of events.
func AllEventTypes() []EventType {
	return []EventType{MessageReceived, IdentityVerified, IdentityOptedOut, IdentityOptedIn}
}

// DefaultEventTypes returns the types of events that an application receives unless its instance lists
// others. New types are not added to it, so that they never arrive unasked.
func DefaultEventTypes() []EventType { return []EventType{MessageReceived, IdentityVerified} }

// IsNotice reports whether an event does not hold up the events after it: while its delivery fails, they
// are delivered before it.
func (t EventType) IsNotice() bool { return t != MessageReceived && t != IdentityVerified }

// A Delivery is an event to be delivered to the application.
type Delivery struct {
	ID             string
	TenantID       string
	ConversationID string
	InstanceID     string
	MessageID      string // empty unless the event is a message
	IdentityID     string
	Type           EventType
	Parked         bool // the instance has no agent URL: the event waits until it has one

	// JoinKey is not empty if the message may be delivered in one event with the messages of other
	// deliveries that have the same key. JoinWait is how long to wait for them.
	JoinKey  string
	JoinWait time.Duration
}

// MessagesPerMinute is the number of messages of a sender in a conversation that are delivered one by
// one. Further messages are joined: the application receives fewer events, and no message is lost.
const MessagesPerMinute = 30

// A DeliveryResult is the result of one attempt to deliver an event.
type DeliveryResult struct {
	ID         string
	Status     DeliveryStatus
	Delay      time.Duration // until the next attempt, if Status is Pending
	HTTPStatus int           // of the response; 0 if there was none
	Error      string        // for staff; never contains the response body
}

// A DeliveryStatus is the status of a delivery.
type DeliveryStatus string

// The statuses of a delivery.
const (
	Pending   DeliveryStatus = "pending"
	Delivered DeliveryStatus = "delivered"
	Dead      DeliveryStatus = "dead"
)

// An Event is a delivery with all the data that the application receives.
type Event struct {
	Delivery
	EventID            string  // set when the event is formed: ID of its first delivery
	Joined             []Event // of a formed event: the further messages, in order
	Attempts           int
	Delay              time.Duration // until the next attempt; zero or negative: now
	CreatedAt          time.Time
	Age                time.Duration // since CreatedAt, by the clock of the database
	Err                error         // not nil: the message or a signing secret cannot be read
	ReceivedAt         time.Time
	Channel            adapters.Channel
	Message            adapters.Message
	Sender             identity.Identity           // zero if there is no sender
	Customer           identity.Customer           // of Sender: email and names only
	FKID               string                      // of the customer, in the application's own system
	VerificationPolicy identity.VerificationPolicy // of the instance
	AgentURL           string
	DisabledAt         time.Time
	Secrets            []string // valid signing secrets, newest first
}
