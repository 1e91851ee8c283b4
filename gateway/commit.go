package gateway

import (
	"context"
	"time"

	"hydragate/claim"
	"hydragate/identity"
)

// applyTimeout bounds the note of what has already happened outside.
const applyTimeout = 5 * time.Second

// DetachedContext gives a context for that note: it must not be lost because the time for the
// work before it is over.
func DetachedContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
}

// UnlinkWindow is how long the question of /unlink stands.
const UnlinkWindow = 5 * time.Minute

// A Commit is everything that working a lane changes. It is stored whole, with
// the lease's word that it still holds, or not at all.
type Commit struct {
	Lease Lease

	// Release gives the lane back; otherwise the lease is renewed. Next is when to
	// look again though nothing new came (zero: not before).
	Release bool
	Next    time.Time

	Messages          []MessageResult
	CreatedIdentities []identity.Identity // unknown senders who wrote for the first time
	IdentityUpdates   []IdentityUpdate
	Participant       *ConversationParticipant
	Events            []identity.Event
	Deliveries        []Delivery
	Replies           []OutboxRow

	Claim  *claim.Decision
	Unlink *UnlinkRequest

	DeliveryResults []DeliveryResult
	SendResults     []SendResult
	Unreachable     *Unreachable
}

// Unreachable says that the person of a conversation cannot be written to.
type Unreachable struct {
	ConversationID string
	OptedOut       bool                  // by the person's own wish; otherwise blocked or gone
	ExpiryReason   identity.ExpiryReason // not empty: perhaps it is another person now
}

// MessageResult is the end of one inbound message.
type MessageResult struct {
	ID      string
	Outcome string
	Dead    bool    // given up after too many attempts
	Retry   bool    // not settled: only the attempt is counted
	Text    *string // the text as it is kept from now on; nil leaves it
}

// A IdentityUpdate is what a message tells of its sender beside the words.
type IdentityUpdate struct {
	IdentityID      string
	DisplayName     string // of an unknown sender; empty leaves it
	Username        string
	OptedOut        *bool
	Blocked         *bool
	UpdateLastSeen  bool                  // the time of the last message is to be kept
	ExpiryReason    identity.ExpiryReason // not empty: perhaps it is another person now
	ReclaimNotified bool                  // was told how to claim again
}

// A ConversationParticipant says whom a direct conversation is with.
type ConversationParticipant struct {
	ConversationID string
	TenantID       string
	Address        identity.Address
}

// An UnlinkRequest is a person's own wish to be unlinked: asked once, then confirmed.
type UnlinkRequest struct {
	TenantID   string
	IdentityID string
	Confirmed  bool
	Requested  bool // false and not Confirmed: the question is taken back
}
