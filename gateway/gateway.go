// Package gateway is what happens to a message: it is accepted, its conversation is
// worked in order, commands are answered, everything else is handed on, and replies
// leave. It does not know how a channel speaks, nor how a database keeps its word.
package gateway

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// Errors of the stores behind the gateway.
var (
	// ErrLeaseLost says that somebody else works the lane now: what was about to be
	// written was not.
	ErrLeaseLost = errors.New("gateway: lease lost")
	// ErrFenced says that a claim is not good any more; nothing was written.
	ErrFenced = errors.New("gateway: claim refused by its fence")
	// ErrUnstorable says that the database refuses the data itself.
	ErrUnstorable = errors.New("gateway: data cannot be stored")
	// ErrRejected says that the database answered, and not with yes: a part of what was
	// to be stored is at fault, not the way there.
	ErrRejected = errors.New("gateway: refused by the database")
	// ErrAway says that the database does not answer, or that it cannot work now.
	ErrAway = errors.New("gateway: the database is away")
	// ErrNoMasterKey says that what is stored is sealed with a master key that this
	// process was not given. Another process may have it: nothing is given up for it.
	ErrNoMasterKey = errors.New("gateway: sealed with a master key that is not here")
	// ErrBusy says that more waits to be stored than can be stored soon.
	ErrBusy = errors.New("gateway: too much is waiting")
)

// An Arrival is one inbound message on its way into the store.
type Arrival struct {
	ID             string
	TenantID       string
	InstanceID     string
	Channel        adapters.Channel
	ConversationID string
	Message        adapters.Message // without what is in Secret
	Secret         *Secret          // nil when nothing needs sealing
	Age            time.Duration    // how long ago it was received, when that is not now
}

// A Secret is the part of a message that is kept sealed until it is worked, and
// wiped then: texts that may hold a claim code, bytes that could not be read, and
// addresses that work without a password.
type Secret struct {
	Text    string            `json:"text,omitempty"`
	Command *adapters.Command `json:"command,omitempty"`
	Raw     []byte            `json:"raw,omitempty"`
	Answer  string            `json:"answer,omitempty"`
}

// ConversationID names the conversation of a place: the same place on the same
// channel of the same instance is always the same conversation.
func ConversationID(instanceID string, channel adapters.Channel, place string) string {
	ns, err := uuid.Parse(instanceID)
	if err != nil {
		ns = uuid.NameSpaceOID
	}
	return uuid.NewSHA1(ns, []byte(string(channel)+"\x1f"+place)).String()
}

// A Cursor moves a poller's place in its channel together with the messages before
// it, or not at all. It is fenced by the epoch of the poller's lease.
type Cursor struct {
	EndpointID string
	TenantID   string
	Holder     string
	Epoch      int64
	Value      string
}

// A LaneKind is one of the three kinds of work of a conversation, each in order and
// by one holder at a time.
type LaneKind string

// The kinds of lane.
const (
	InboxLane    LaneKind = "inbox"    // messages to be worked
	DeliveryLane LaneKind = "delivery" // events to be posted to the agent runtime
	OutboxLane   LaneKind = "outbox"   // replies to be sent
)

// A Lease is the right to work one lane until it runs out. Every write under it is
// refused once another holder has taken the lane.
type Lease struct {
	TenantID       string
	InstanceID     string
	ConversationID string
	Kind           LaneKind
	Holder         string
	Epoch          int64
	Wakes          int64 // how often work was announced before the lease
}

// LeaseTime is how long a lease holds without being renewed: how long the work of a
// process that died lies still. Who works renews it, with each piece and while one
// takes long. With the time until somebody looks, and does the work, it is less than
// fifteen seconds.
const LeaseTime = 12 * time.Second

// FetchMost is how many pieces of work of one lane are read at a time: when there are
// so many there may be more.
const FetchMost = 16

// UnlinkTime is how long the question of /unlink stands.
const UnlinkTime = 5 * time.Minute

// An Inbound is a stored message with everything needed to work it.
type Inbound struct {
	ID                   string
	TenantID             string
	InstanceID           string
	ConversationID       string
	Channel              adapters.Channel
	Message              adapters.Message // whole again
	Sealed               bool             // the text was kept sealed: the stored one is redacted
	Attempts             int
	ReceivedAt           time.Time     // by the database's clock
	Age                  time.Duration // since then, by the same clock
	Fault                error         // the stored message cannot be read
	Sender               identity.Identity
	ConversationIdentity string // who the conversation is with, as last known
	CodeWaits            bool   // a live claim code waits for the sender
	UnlinkAsked          bool   // the question of /unlink stands
	ReclaimTold          bool   // the sender was told how to claim again
	Refused              bool   // staff wants to hear nothing from the sender, whom nobody knows
	Instance             Instance
}

// A Settlement is everything that working a lane changes. It is stored whole, with
// the lease's word that it still holds, or not at all.
type Settlement struct {
	Lease Lease

	// Release gives the lane back; otherwise the lease is renewed. Next is when to
	// look again though nothing new came (zero: not before).
	Release bool
	Next    time.Time

	Messages   []Settled
	Met        []identity.Identity // unknown senders who wrote for the first time
	Seen       []Sighting
	Person     *ConversationPerson
	Events     []identity.Event
	Deliveries []Delivery
	Replies    []OutboxRow

	Claim    *claim.Ruling
	UnlinkOf *Unlinking

	DeliveryDone []DeliveryResult
	SendDone     []SendResult
	Unreachable  *Unreachable
}

// Unreachable says that the person of a conversation cannot be written to.
type Unreachable struct {
	ConversationID string
	OptedOut       bool           // by the person's own wish; otherwise blocked or gone
	Doubt          identity.Doubt // not empty: perhaps it is another person now
}

// Settled is the end of one inbound message.
type Settled struct {
	ID      string
	Outcome string
	Dead    bool    // given up after too many attempts
	Retry   bool    // not settled: only the attempt is counted
	Text    *string // the text as it is kept from now on; nil leaves it
}

// A Sighting is what a message tells of its sender beside the words.
type Sighting struct {
	IdentityID  string
	DisplayName string // of an unknown sender; empty leaves it
	Username    string
	OptedOut    *bool
	Blocked     *bool
	Heard       bool           // the time of the last message is to be kept
	Doubt       identity.Doubt // not empty: perhaps it is another person now
	ReclaimTold bool           // was told how to claim again
}

// A ConversationPerson says whom a direct conversation is with.
type ConversationPerson struct {
	ConversationID string
	TenantID       string
	Address        identity.Address
}

// An Unlinking is a person's own wish to be unlinked: asked once, then confirmed.
type Unlinking struct {
	TenantID   string
	IdentityID string
	Confirmed  bool
	Asked      bool // false and not Confirmed: the question is taken back
}

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
	ID     string
	Status DeliveryStatus
	Wait   time.Duration // until the next attempt, when Pending
	Answer int           // the runtime's HTTP status, 0 when there was none
	Error  string        // for staff; never the runtime's body
}

// A DeliveryStatus says how far handing on has come.
type DeliveryStatus string

// The states of a delivery.
const (
	Pending   DeliveryStatus = "pending"
	Delivered DeliveryStatus = "delivered"
	Dead      DeliveryStatus = "dead"
)

// An OutboxRow is one message to a person, already within the channel's limits.
type OutboxRow struct {
	ID             string
	TenantID       string
	ConversationID string
	InstanceID     string
	Channel        adapters.Channel
	Recipient      string // external id
	Place          adapters.Place
	Text           string
	ReplyTo        string
	Cause          string        // "agent", "command", "notice"
	MessageID      string        // the inbound message answered
	AtMost         int           // not zero: not stored when so many of its cause were, in its conversation within an hour
	Wait           time.Duration // until it may be sent; nothing or less: now

	Status   adapters.Status
	Attempts int
	Maybe    bool          // an earlier attempt may have reached the channel
	Age      time.Duration // since it was stored, by the database's clock
	Fault    error         // the stored place cannot be read
	OptedOut bool          // the person does not want messages any more
}

// A SendResult is the end of one attempt to send a reply.
type SendResult struct {
	Row        OutboxRow
	Status     adapters.Status
	ProviderID string
	Reason     adapters.Reason
	Code       string
	Wait       time.Duration // until the next attempt, when still Queued
	Maybe      bool          // when still Queued: the channel may have taken it
	Gone       bool          // the account or number does not exist any more
}

// Sending is the state of a reply while the channel is asked to take it: found after
// a crash, it says that the channel may have taken it.
const Sending adapters.Status = "sending"

// An Event is a delivery with everything the agent runtime is told.
type Event struct {
	Delivery
	Attempts      int
	Wait          time.Duration // until the next attempt; nothing or less: now
	CreatedAt     time.Time
	Age           time.Duration // since then, by the database's clock
	Fault         error         // the message or the signing secret cannot be read
	ReceivedAt    time.Time
	Channel       adapters.Channel
	Message       adapters.Message
	Sender        identity.Identity // zero: nobody
	CustomerEmail string
	Freshness     identity.Freshness // of the instance
	AgentURL      string
	DisabledAt    time.Time
	Secrets       []string // live signing secrets, the newest first
}
