package process

import (
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// A decision is what becomes of one message.
type decision struct {
	outcome   string
	text      *string // replaces the stored text
	commitNow bool    // to be settled before the next message is looked at
	deferred  bool    // not settled: looked at again at next
	retryAt   time.Time

	created        *identity.Identity
	updated        *gateway.IdentityUpdate
	events         []identity.Event
	deliveries     []gateway.Delivery
	replies        []gateway.OutboxRow
	claim          *claim.Decision
	unlink         *gateway.UnlinkRequest
	setParticipant bool
}

func (v decision) addTo(s *gateway.Commit, in gateway.StoredMessage) {
	if !v.deferred { // waiting is no failed attempt
		s.Messages = append(s.Messages, gateway.MessageResult{ID: in.ID, Outcome: v.outcome, Text: v.text})
	}
	if v.created != nil {
		s.CreatedIdentities = append(s.CreatedIdentities, *v.created)
	}
	if v.updated != nil {
		s.IdentityUpdates = append(s.IdentityUpdates, *v.updated)
	}
	if v.setParticipant {
		s.Participant = &gateway.ConversationParticipant{ConversationID: in.ConversationID, TenantID: in.TenantID, Address: in.SenderAddress()}
	}
	s.Events = append(s.Events, v.events...)
	s.Deliveries = append(s.Deliveries, v.deliveries...)
	s.Replies = append(s.Replies, v.replies...)
	s.Claim, s.Unlink = v.claim, v.unlink
}

// changesOwner reports whether the message makes the account somebody's or nobody's, or
// asks whether it shall.
func (v decision) changesOwner() bool {
	return v.unlink != nil || v.claim != nil && (v.claim.Grant != nil || v.claim.Redeem != nil)
}
