package process

import (
	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// withoutKeyword returns m as a message with content if it is a keyword that means something to a
// carrier only if the sender opted out: for everyone else, YES, START or HELP are ordinary words.
func withoutKeyword(m adapters.Message) adapters.Message {
	switch {
	case m.Kind != adapters.OptIn && m.Kind != adapters.Help:
	case len(m.Media) > 0:
		m.Kind = adapters.Media
	default:
		m.Kind = adapters.Text
	}
	return m
}

// applyOptOut records that the sender opted in or out, or blocked or unblocked the bot. Such messages
// are neither delivered to the application nor replied to, since the carrier replies to them. The
// application receives an event about an opt-out and an opt-in if it is subscribed to them.
func applyOptOut(in gateway.StoredMessage, d decision) decision {
	d.outcome = string(in.Message.Kind)
	u := d.identityUpdate(in)
	yes, no := true, false
	switch in.Message.Kind {
	case adapters.OptOut:
		u.OptedOut, d.commitNow = &yes, true // the next message is read with the opt-out
	case adapters.OptIn:
		u.OptedOut, d.commitNow = &no, true
	case adapters.Block:
		u.Blocked = &yes
	case adapters.Unblock:
		u.Blocked = &no
	default:
		return d
	}
	d.updated = &u
	return d
}

// resolveSender creates an identity for an unknown sender and sets it in the message. For a known
// sender it decides which fields of the identity the message changes.
func (w *Worker) resolveSender(in *gateway.StoredMessage) decision {
	var d decision
	d.setParticipant = !in.Message.Chat.Group && (in.Sender.ID == "" || in.ConversationIdentity != in.Sender.ID)
	if in.Sender.ID == "" {
		in.Sender = newIdentity(*in, gateway.NewID())
		created := in.Sender
		d.created = &created
		d.commitNow = true // the next message is read with this identity
		return d
	}
	u := gateway.IdentityUpdate{
		// Verifications and unknown senders may expire without a message.
		UpdateLastSeen: (in.Sender.IsVerified() || in.Sender.CustomerID == "") &&
			in.ReceivedAt.Sub(in.Sender.LastSeenAt) > identity.LastSeenPrecision,
	}
	sender := in.Message.Sender
	if in.Sender.CustomerID == "" && sender.Name != "" && sender.Name != in.Sender.DisplayName {
		u.DisplayName = sender.Name
	}
	if sender.Username != "" && sender.Username != in.Sender.Username {
		u.Username = sender.Username
	}
	if sender.Username == "" && in.Sender.Username != "" && adapters.TraitsOf(in.Channel).Usernames {
		u.ClearUsername = true // it may be that of another person now
	}
	if !in.Sender.BlockedAt.IsZero() && in.Message.Kind != adapters.Block {
		u.Blocked = new(bool)
	}
	if in.Sender.ExpiryReason == "" && in.Instance.VerificationPolicy.InactivityExceeded(in.Sender, in.ReceivedAt) {
		u.ExpiryReason, in.Sender.ExpiryReason = identity.ExpiredByInactivity, identity.ExpiredByInactivity
		d.commitNow = true // the next message is read with the expired verification
	}
	if u != (gateway.IdentityUpdate{}) {
		u.IdentityID = in.Sender.ID
		d.updated = &u
	}
	return d
}

// newIdentity returns an identity for the sender of a message, scoped to its instance.
func newIdentity(in gateway.StoredMessage, id string) identity.Identity {
	a := in.SenderAddress()
	return identity.Identity{
		ID: id, TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel, ExternalID: a.ExternalID,
		DisplayName: in.Message.Sender.Name, Username: in.Message.Sender.Username,
	}
}
