package gateway

import (
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// A Delivery is one event for the agent runtime.
type Delivery struct {
	ID             string
	TenantID       string
	ConversationID string
	InstanceID     string
	MessageID      string // empty for events that are not a message
	IdentityID     string
	Type           string // "message.received", "identity.verified"
	Parked         bool   // there is nobody to post it to: it waits for an agent URL
}

// A DeliveryResult is the end of one attempt to post an event.
type DeliveryResult struct {
	ID         string
	Status     DeliveryStatus
	Delay      time.Duration // until the next attempt, when Pending
	HTTPStatus int           // the runtime's HTTP status, 0 when there was none
	Error      string        // for staff; never the runtime's body
}

// A DeliveryStatus says how far handing on has come.
type DeliveryStatus string

// The states of a delivery.
const (
	Pending   DeliveryStatus = "pending"
	Delivered DeliveryStatus = "delivered"
	Dead      DeliveryStatus = "dead"
)

// An Event is a delivery with everything the agent runtime is told.
type Event struct {
	Delivery
	Attempts           int
	Delay              time.Duration // until the next attempt; nothing or less: now
	CreatedAt          time.Time
	Age                time.Duration // since then, by the database's clock
	Err                error         // the message or the signing secret cannot be read
	ReceivedAt         time.Time
	Channel            adapters.Channel
	Message            adapters.Message
	Sender             identity.Identity // zero: nobody
	CustomerEmail      string
	VerificationPolicy identity.VerificationPolicy // of the instance
	AgentURL           string
	DisabledAt         time.Time
	Secrets            []string // live signing secrets, the newest first
}
