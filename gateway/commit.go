package gateway

import (
	"context"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// applyTimeout bounds writes that record what has already happened.
const applyTimeout = 5 * time.Second

// DetachedContext returns a context for recording what has already happened, such as a request to
// a provider. It has the values of ctx, but not its cancellation, and a timeout of its own.
func DetachedContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
}

const (
	// UnlinkWindow is the time within which /unlink must be confirmed.
	UnlinkWindow = 5 * time.Minute
	// UnlinkFailureWindow is the time for which wrong words are counted, from the first.
	UnlinkFailureWindow = 24 * time.Hour
)

// A Commit holds all changes made while processing a queue. It is stored atomically, and only if
// the lease is still held.
type Commit struct {
	Lease Lease

	// Release ends the lease; otherwise it is renewed. Next is when the queue is due again even if
	// nothing is added to it. Zero means that only new work makes it due.
	Release bool
	Next    time.Time

	Messages          []MessageResult
	EmptiedMessages   []EmptiedMessage
	CreatedIdentities []identity.Identity // of unknown senders on first contact
	IdentityUpdates   []IdentityUpdate
	Participant       *ConversationParticipant
	Events            []identity.Event
	Deliveries        []Delivery
	Replies           []OutboxRow

	Claim  *claim.Decision
	Unlink *UnlinkRequest

	FormedEvent     []string // IDs of the deliveries that are one event from now on
	DeliveryResults []DeliveryResult
	SendResults     []SendResult
	Unreachable     *Unreachable
}

// Unreachable records that replies no longer reach the recipient of a conversation.
type Unreachable struct {
	ConversationID string
	OptedOut       bool                  // the recipient unsubscribed; false: blocked the bot or closed the account
	ExpiryReason   identity.ExpiryReason // not empty: the verification expires
}

// A MessageResult is the result of processing one inbound message.
type MessageResult struct {
	ID      string
	Outcome string
	Dead    bool              // abandoned after too many failed attempts
	Retry   bool              // not processed: only the failed attempt is counted
	Message *adapters.Message // replaces the stored message; nil leaves it

	// KeepSecret keeps the encrypted part of a message that was not decoded completely, until the
	// texts of messages are purged.
	KeepSecret bool

	// ReplyToken is what remains of the encrypted part otherwise, for the replies of the application.
	ReplyToken string
}

// An EmptiedMessage is an earlier message that its author deleted.
type EmptiedMessage struct {
	ID      string
	Message adapters.Message // what remains
}

// An IdentityUpdate holds changes to the identity of a sender. Empty fields leave the stored value.
type IdentityUpdate struct {
	IdentityID      string
	DisplayName     string // set for unknown senders only
	Username        string
	ClearUsername   bool  // the sender has no username any more
	OptedOut        *bool // a change causes an event
	Blocked         *bool
	UpdateLastSeen  bool                  // store the time of this message as last seen
	ExpiryReason    identity.ExpiryReason // not empty: the verification expires
	ReclaimNotified bool                  // the sender was asked to claim the account again
}

// A ConversationParticipant is the address of the person in a direct conversation.
type ConversationParticipant struct {
	ConversationID string
	TenantID       string
	Address        identity.Address
}

// An UnlinkRequest is a sender's request to unlink their identity. It must be confirmed within
// UnlinkWindow.
type UnlinkRequest struct {
	TenantID   string
	IdentityID string
	Confirmed  bool
	Requested  bool   // if neither Requested nor Confirmed is set, a pending request is withdrawn
	Word       string // with Requested: the word that confirms it; empty if none is needed
	Failed     bool   // a wrong word is counted
}
