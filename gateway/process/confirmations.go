package process

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// Texts of claims and invites that wait for someone.
const (
	textAwaitingStaff = "Thank you. We confirm new accounts ourselves, so please wait. " +
		"You will get a message here."
	textAwaitingOwner = "Thank you. I have asked an owner to confirm this, so please wait. " +
		"You will get a message here within 10 minutes."
	textNoOwnerReachable = "An owner has to confirm this, and I cannot reach one. Please contact us."
	textNotConfirmed     = "This account was not confirmed, so it is not linked. Please contact us if that is wrong."
	textAskOwner         = "Someone wants to link a %s account to you. If you know about it, reply within " +
		"10 minutes with: OK %s\nIf not, reply with: NO %s"
	textOwnerConfirmed   = "Thank you. The account is now linked to you."
	textOwnerRefused     = "The account was not linked. If you do not know who asked for it, please tell us."
	textOwnerWrongNumber = "I do not know that number. Please repeat it exactly as in my message."
)

// awaitingText returns the reply to a claim or an invite that waits for someone.
func awaitingText(r claim.Decision) string {
	switch {
	case r.Outcome == claim.AwaitingStaff:
		return textAwaitingStaff
	case r.Ask != nil && len(r.Ask.OwnersAsked) == 0:
		return textNoOwnerReachable
	}
	return textAwaitingOwner
}

// awaitResult adds the reply that the account was not confirmed. It is sent after a delay, and
// earlier if someone refuses; the store deletes it if the account is confirmed.
func (w *Worker) awaitResult(in gateway.StoredMessage, d decision, delay time.Duration) decision {
	rows := w.replyRows(in, textNotConfirmed)
	for i := range rows {
		rows[i].Cause, rows[i].Delay, rows[i].Chat.ReplyToken = "reminder", delay, ""
	}
	d.replies = append(d.replies, rows...)
	return d
}

// ownerNotices returns the requests to the owners to confirm a claim.
func (w *Worker) ownerNotices(in gateway.StoredMessage, q claim.Request) []gateway.OutboxRow {
	text := fmt.Sprintf(textAskOwner, adapters.TraitsOf(in.Channel).DisplayName, q.Number, q.Number)
	var rows []gateway.OutboxRow
	for _, o := range q.OwnersAsked {
		channel := adapters.Channel(o.Channel)
		rows = append(rows, gateway.SplitReply(w.Adapters[channel], gateway.OutboxRow{
			TenantID: in.TenantID, ConversationID: o.ConversationID,
			InstanceID: o.InstanceID, Channel: channel, Recipient: o.Recipient, Chat: adapters.Chat{ID: o.ChatID},
			Cause: "notice", MessageID: in.ID,
		}, text)...)
	}
	return rows
}

// ownerAnswer matches the answer of an owner: OK or NO, and the number of the request.
var ownerAnswer = regexp.MustCompile(`(?i)^\s*(ok|no)[\s:.,#]*(\d{3})[\s-]?(\d{3})[\s.!]*$`)

// handleOwnerAnswer handles the answer of an owner to a claim that waits. The answer counts only if
// the owner typed it in a private conversation and the channel vouches for that. handled is false if
// the message is no answer.
func (w *Worker) handleOwnerAnswer(
	ctx context.Context, in gateway.StoredMessage, d decision,
) (out decision, handled bool, err error) {
	m := in.Message
	answer := ownerAnswer.FindStringSubmatch(m.Text)
	if answer == nil || m.Kind != adapters.Text || m.Chat.Group || m.UnprovenReason != "" ||
		in.EffectiveRole(w.Now()).Role != identity.Owner {
		return d, false, nil
	}
	a := w.newAttempt(in, claim.ParsedText{})
	agreed := strings.EqualFold(answer[1], "ok")
	r, ok, err := w.Claims.DecideAnswer(ctx, a, in.Sender.CustomerID, answer[2]+answer[3], agreed)
	if err != nil || !ok {
		return d, false, err
	}
	d.claim = &r
	switch r.Outcome {
	case claim.Confirmed:
		d = w.reply(in, d, string(r.Outcome), textOwnerConfirmed)
		return w.announceConfirmed(d, r.Answer.Request), true, nil
	case claim.Refused:
		return w.reply(in, d, string(r.Outcome), textOwnerRefused), true, nil
	default: // claim.WrongNumber
		return w.reply(in, d, string(r.Outcome), textOwnerWrongNumber), true, nil
	}
}

// announceConfirmed replies to the person whose claim an owner confirmed, and notifies the application
// and the customer's other identities.
func (w *Worker) announceConfirmed(d decision, q claim.Request) decision {
	claimed := claimMessage(q.Target.TenantID, q.InstanceID, q.ConversationID, q.Target.Channel)
	claimed.ID, claimed.Instance.AgentURL = q.MessageID, q.AgentURL
	claimed.Message.Sender.ID, claimed.Message.Chat.ID = q.Target.ExternalID, q.ChatID
	d.replies = append(d.replies, w.replyRows(claimed, verifiedText(q.MaskedName))...)
	return w.announceLink(claimed, d, claim.Decision{LinkedConversations: q.LinkedConversations}, q.Target.IdentityID)
}

// claimMessage returns a stored message with the conversation of a claim that waited.
func claimMessage(tenant, instance, conversation, channel string) gateway.StoredMessage {
	return gateway.StoredMessage{
		TenantID: tenant, InstanceID: instance, ConversationID: conversation, Channel: adapters.Channel(channel),
	}
}

// An InviteStore stores the confirmation of invites.
type InviteStore interface {
	// PendingInvite returns an invite that waits for staff, and the conversations to notify.
	PendingInvite(ctx context.Context, k claim.InviteKey) (claim.Confirmation, error)
	// ConfirmInvite redeems the invite for the account that opened it, with the replies and the
	// deliveries of the commit.
	ConfirmInvite(
		ctx context.Context, c claim.Confirmation, commit gateway.Commit, by identity.Actor,
	) (claim.Invite, error)
	RefuseInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) (claim.Invite, error)
}

// An InviteConfirmer confirms and refuses the accounts that open invites, for staff. It sends the
// same replies and events as Worker does for an invite that needs no confirmation.
type InviteConfirmer struct {
	Store  InviteStore
	Worker *Worker
}

// ConfirmInvite links and verifies the account that opened an invite. Its errors are those of
// InviteStore.
func (f *InviteConfirmer) ConfirmInvite(
	ctx context.Context, k claim.InviteKey, by identity.Actor,
) (claim.Invite, error) {
	c, err := f.Store.PendingInvite(ctx, k)
	if err != nil {
		return claim.Invite{}, err
	}
	i, o := c.Invite, c.Invite.Opener
	opened := claimMessage(i.TenantID, i.InstanceID, o.ConversationID, i.Channel)
	opened.ID, opened.Instance.AgentURL = o.MessageID, c.AgentURL
	opened.Message.Sender.ID, opened.Message.Chat.ID = o.ExternalID, c.ChatID
	d := decision{replies: f.Worker.replyRows(opened, verifiedText(c.MaskedName))}
	d = f.Worker.announceLink(opened, d, claim.Decision{LinkedConversations: c.LinkedConversations}, o.IdentityID)
	confirmed, err := f.Store.ConfirmInvite(ctx, c, gateway.Commit{Replies: d.replies, Deliveries: d.deliveries}, by)
	if err == nil {
		f.Worker.Wake(gateway.DeliveryQueue, gateway.OutboxQueue)
	}
	return confirmed, err
}

// RefuseInvite ends an invite without linking the account that opened it.
func (f *InviteConfirmer) RefuseInvite(
	ctx context.Context, k claim.InviteKey, by identity.Actor,
) (claim.Invite, error) {
	i, err := f.Store.RefuseInvite(ctx, k, by)
	if err == nil {
		f.Worker.Wake(gateway.OutboxQueue)
	}
	return i, err
}
