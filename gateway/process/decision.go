package process

import (
	"slices"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// A decision is the result of processing one message, not stored yet.
type decision struct {
	outcome   string
	message   *adapters.Message // replaces the stored message
	commitNow bool              // must be committed before the next message is processed
	deferred  bool              // not processed: to be retried at retryAt
	retryAt   time.Time

	created        *identity.Identity
	updated        *gateway.IdentityUpdate
	events         []identity.Event
	deliveries     []gateway.Delivery
	replies        []gateway.OutboxRow
	claim          *claim.Decision
	unlink         *gateway.UnlinkRequest
	emptied        []gateway.EmptiedMessage
	setParticipant bool
}

// addTo adds the decision about a message to a commit.
func (d decision) addTo(c *gateway.Commit, in gateway.StoredMessage) {
	deliveries := slices.DeleteFunc(slices.Clone(d.deliveries), func(e gateway.Delivery) bool {
		return !in.Instance.Receives(e.Type)
	})
	if !d.deferred { // a deferred message is not a failed attempt
		m := gateway.MessageResult{ID: in.ID, Outcome: d.outcome, Message: d.message}
		if len(deliveries) > 0 {
			m.KeepSecret, m.ReplyToken = len(in.Message.Raw) > 0, in.Message.Chat.ReplyToken
		}
		c.Messages = append(c.Messages, m)
	}
	if d.created != nil {
		c.CreatedIdentities = append(c.CreatedIdentities, *d.created)
	}
	if d.updated != nil {
		c.IdentityUpdates = append(c.IdentityUpdates, *d.updated)
	}
	if d.setParticipant {
		c.Participant = &gateway.ConversationParticipant{
			ConversationID: in.ConversationID, TenantID: in.TenantID, Address: in.SenderAddress(),
		}
	}
	c.Events = append(c.Events, d.events...)
	c.Deliveries = append(c.Deliveries, deliveries...)
	c.Replies = append(c.Replies, d.replies...)
	c.Claim, c.Unlink = d.claim, d.unlink
	c.EmptiedMessages = append(c.EmptiedMessages, d.emptied...)
}

// identityUpdate returns a copy of the update of the sender's identity, or an empty one.
func (d decision) identityUpdate(in gateway.StoredMessage) gateway.IdentityUpdate {
	if d.updated != nil {
		return *d.updated
	}
	return gateway.IdentityUpdate{IdentityID: in.Sender.ID}
}

// changesOwner reports whether the message links or unlinks the account.
func (d decision) changesOwner() bool {
	return d.unlink != nil && d.unlink.Confirmed || d.claim != nil && (d.claim.Grant != nil || d.claim.Redeem != nil)
}
