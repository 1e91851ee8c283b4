package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

// handleCommand executes a message that is a chat command or a claim code, or contains one that is live.
// handled is false if the message is none of these.
func (w *Worker) handleCommand(
	ctx context.Context, in *gateway.StoredMessage, d decision, s screening,
) (out decision, handled bool, err error) {
	switch {
	case s.live:
		d, err = w.handleExposed(ctx, *in, d, s)
		return d, true, err
	case s.isClaim && s.parsed.Command:
		d, err = w.handleClaim(ctx, *in, d, s.parsed)
		return d, true, err
	case in.Encrypted && in.Message.Chat.Group && claim.IsAddressedToBot(in.Message.Text):
		d.outcome = "for_another_bot"
		return d, true, nil
	case in.Message.Command == nil || in.Message.Kind != adapters.Text:
		return d, false, nil
	}
	out, handled, err = w.handleChatCommand(ctx, *in, d)
	if handled && err == nil {
		out = w.passOn(in, out, s)
		if in.Message.StartPayload != "" && w.isForwarded(*in) {
			out.deliveries = append(out.deliveries, messageDelivery(*in))
		}
	}
	return out, handled, err
}

// isForwarded reports whether the messages of the sender are delivered to the application.
func (w *Worker) isForwarded(in gateway.StoredMessage) bool {
	return in.Sender.CustomerID != "" || in.Instance.UnknownSenders == gateway.ForwardUnknown
}

// handleChatCommand executes a command other than /claim.
func (w *Worker) handleChatCommand(
	ctx context.Context, in gateway.StoredMessage, d decision,
) (out decision, handled bool, err error) {
	switch in.Message.Command.Name {
	case "start":
		return w.reply(in, d, "welcomed", cmp.Or(in.Instance.WelcomeText, textWelcome)), true, nil
	case "help":
		return w.reply(in, d, "helped", textHelp), true, nil
	case "whoami":
		if in.Message.Chat.Group {
			return w.reply(in, d, "not_private", textPrivateOnly), true, nil
		}
		return w.reply(in, d, "whoami", whoamiText(in.EffectiveRole(w.Now()), in.Message.Sender.ID)), true, nil
	case "unlink":
		d, err = w.handleUnlink(ctx, in, d)
		return d, true, err
	}
	return d, false, nil
}

// reply sends text to the sender and ends the processing of the message. The reply is not subject to
// the limits of paid channels if the owner of the account changes.
func (w *Worker) reply(in gateway.StoredMessage, d decision, outcome, text string) decision {
	d.outcome, d.commitNow = outcome, true
	rows := w.replyRows(in, text)
	if d.changesOwner() {
		for i := range rows {
			rows[i].MaxPerHour, rows[i].MaxPerInstance = 0, 0
		}
	}
	d.replies = append(d.replies, rows...)
	return d
}

// handleClaim decides about a claim. A code is redeemed only if the sender typed it in a private
// conversation, and the channel vouches for that.
func (w *Worker) handleClaim(
	ctx context.Context, in gateway.StoredMessage, d decision, t claim.ParsedText,
) (decision, error) {
	m := in.Message
	switch {
	case m.Chat.Group:
		return w.reply(in, d, "not_private", textPrivateOnly), nil
	case m.UnprovenReason != "" || m.Kind != adapters.Text:
		return w.reply(in, d, "not_proven", notProvenText(m)), nil
	case t.Code == "":
		return w.reply(in, d, "hint", textHint), nil
	}
	a := w.newAttempt(in, t)
	r, err := w.Claims.DecideRedemption(ctx, a)
	if errors.Is(err, claim.ErrCodeStoreUnavailable) {
		return w.deferClaim(ctx, in, d, a, err)
	}
	if err != nil {
		return d, err
	}
	return w.applyClaimDecision(in, d, r), nil
}

// newAttempt returns the attempt to redeem the code in a message.
func (w *Worker) newAttempt(in gateway.StoredMessage, t claim.ParsedText) claim.Attempt {
	a := claim.Attempt{
		TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), SenderID: in.Message.Sender.ID,
		IdentityID: in.Sender.ID, InstanceIdentityID: in.Sender.ID, MessageID: in.ID, Code: t.Code,
		ReceivedAt: in.ReceivedAt, Paid: adapters.TraitsOf(in.Channel).Paid,
	}
	if in.Sender.InstanceID != in.InstanceID {
		a.InstanceIdentityID = gateway.NewID()
	}
	return a
}

// deferClaim retries a claim later because the code store is unavailable. It notifies the sender once
// if this takes longer, and decides without a check when the code would have expired.
func (w *Worker) deferClaim(
	ctx context.Context, in gateway.StoredMessage, d decision, a claim.Attempt, cause error,
) (decision, error) {
	if in.Age > claim.CodeTTL+claim.CodeGracePeriod {
		r, err := w.Claims.DecideWithoutCheck(ctx, a)
		if err != nil {
			return d, err
		}
		return w.applyClaimDecision(in, d, r), nil
	}
	// The delay doubles the age of the message, within 1 and 30 s. So there is one attempt while the
	// age is between checkNoticeDelay and twice that, in which the sender is notified.
	delay := min(30*time.Second, max(time.Second, in.Age))
	w.Log.WarnContext(ctx, "check claim code failed", "message", in.ID, "waited_ms", in.Age.Milliseconds(),
		"retry_in_ms", delay.Milliseconds(), "error", cause)
	if in.Age >= checkNoticeDelay && in.Age < 2*checkNoticeDelay {
		d.replies = w.replyRows(in, textChecking)
	}
	d.outcome, d.commitNow, d.deferred, d.retryAt = "deferred", true, true, w.Now().Add(delay)
	return d, nil
}

// applyClaimDecision replies with the result of a claim. On success it also notifies the application
// and the customer's other identities.
func (w *Worker) applyClaimDecision(in gateway.StoredMessage, d decision, r claim.Decision) decision {
	r.Attempt.Code = ""
	d.claim = &r
	if r.Silent {
		d.outcome, d.commitNow = string(r.Outcome), true
		return d
	}
	d = w.reply(in, d, string(r.Outcome), claimReply(r))
	switch {
	case r.Open != nil:
		return w.awaitResult(in, d, r.Open.Invite.ExpiresAt.Sub(w.Now()))
	case r.Ask != nil:
		d.replies = append(d.replies, w.ownerNotices(in, *r.Ask)...)
		return w.awaitResult(in, d, claim.OwnerConfirmationTime)
	case r.Grant != nil:
		return w.announceLink(in, d, r, in.Sender.ID)
	case r.Redeem != nil:
		return w.announceLink(in, w.linkRedeemer(in, d, r), r, r.Redeem.IdentityID)
	}
	return d
}

// claimReply returns the reply to a claim.
func claimReply(r claim.Decision) string {
	switch r.Outcome {
	case claim.Granted:
		return verifiedText(r.MaskedName)
	case claim.AlreadyVerified:
		return textAlreadyVerified
	case claim.CodeLost:
		return textCodeLost
	case claim.Throttled:
		return throttledText(r.RetryAfter)
	case claim.AwaitingStaff, claim.AwaitingOwner:
		return awaitingText(r)
	default: // claim.Declined
		return textDeclined
	}
}

// linkRedeemer ensures that the redeemer of an invite has an identity scoped to the instance, since
// an invite holds for one instance. It creates one if the redeemer's identity has another scope.
func (w *Worker) linkRedeemer(in gateway.StoredMessage, d decision, r claim.Decision) decision {
	if in.Sender.InstanceID != in.InstanceID && r.Redeem.IdentityID == r.Attempt.InstanceIdentityID {
		created := newIdentity(in, r.Redeem.IdentityID)
		d.created = &created
	}
	d.setParticipant = true
	return d
}

// announceLink notifies the application and the customer's other identities of a new one.
func (w *Worker) announceLink(in gateway.StoredMessage, d decision, r claim.Decision, identityID string) decision {
	d.deliveries = append(d.deliveries, gateway.Delivery{
		ID: gateway.NewID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID,
		IdentityID: identityID, Type: gateway.IdentityVerified, Parked: in.Instance.AgentURL == "",
	})
	d.replies = append(d.replies, w.linkNotices(in, r)...)
	return d
}

// linkNotices returns notices about a new identity for the customer's other verified identities: one
// to be sent now, and a reminder a day later, because a customer who was tricked into giving away a
// code may not look earlier.
func (w *Worker) linkNotices(in gateway.StoredMessage, r claim.Decision) []gateway.OutboxRow {
	var rows []gateway.OutboxRow
	channelName := adapters.TraitsOf(in.Channel).DisplayName
	for _, o := range r.LinkedConversations {
		rows = append(rows, w.noticeRows(in, o, fmt.Sprintf(textNewAccount, channelName))...)
		for _, reminder := range w.noticeRows(in, o, fmt.Sprintf(textNewAccountReminder, channelName)) {
			reminder.Cause, reminder.Delay = "reminder", 24*time.Hour
			rows = append(rows, reminder)
		}
	}
	return rows
}

// noticeRows returns the outbox rows of a notice to another identity of the sender's customer.
func (w *Worker) noticeRows(in gateway.StoredMessage, o claim.LinkedConversation, text string) []gateway.OutboxRow {
	channel := adapters.Channel(o.Channel)
	return gateway.SplitReply(w.Adapters[channel], gateway.OutboxRow{
		TenantID: in.TenantID, ConversationID: o.ConversationID,
		InstanceID: o.InstanceID, Channel: channel, Recipient: o.Recipient, Chat: adapters.Chat{ID: o.ChatID},
		Cause: "notice", MessageID: in.ID,
	}, text)
}
