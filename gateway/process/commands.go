package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// bareCodeTimeout is how long letters alone wait for the word whether they are
// somebody's code. Then they go no further, and the sender is told.
const bareCodeTimeout = time.Minute

// handleCommand answers what is meant for the gateway itself; mine says that it was.
func (w *Worker) handleCommand(ctx context.Context, in gateway.StoredMessage, v decision) (out decision, mine bool, err error) {
	me, err := w.botUsername(ctx, in)
	if err != nil {
		return v, false, err
	}
	t, ok := claim.Parse(in.Message.Text, me)
	if ok && !t.Command && (!in.HasLiveCode || claim.IsInviteCode(t.Code)) {
		// Six letters alone are an ordinary word, and twelve nothing of ours, unless they
		// are somebody's code.
		ok, err = w.Claims.IsLiveCode(ctx, w.newAttempt(in, t))
		if err != nil && !errors.Is(err, claim.ErrCodeStoreUnavailable) {
			return v, false, err
		}
		if err != nil && in.Age < bareCodeTimeout {
			v, err = w.deferClaim(ctx, in, v, w.newAttempt(in, t), err)
			return v, true, err
		}
		if err != nil {
			return w.reply(in, v, "withheld", textCodeLost), true, nil
		}
	}
	if ok {
		v, err := w.handleClaim(ctx, in, v, t)
		return v, true, err
	}
	if in.Encrypted && claim.IsAddressedToBot(in.Message.Text) {
		v.outcome = "for_another_bot"
		return v, true, nil
	}
	c := in.Message.Command
	if c == nil || in.Message.Kind != adapters.Text {
		return v, false, nil
	}
	switch c.Name {
	case "start":
		return w.reply(in, v, "welcomed", welcomeText(in)), true, nil
	case "help":
		return w.reply(in, v, "helped", textHelp), true, nil
	case "whoami":
		return w.requirePrivate(in, v, func() decision { return w.reply(in, v, "told", whoamiText(in.EffectiveRole(w.Now()))) }), true, nil
	case "unlink":
		return w.requirePrivate(in, v, func() decision { return w.handleUnlink(in, v) }), true, nil
	}
	return v, false, nil
}

func welcomeText(in gateway.StoredMessage) string {
	if in.Instance.WelcomeText != "" {
		return in.Instance.WelcomeText
	}
	return textWelcome
}

// maxPaidReplies is how many answers of the house's own a person gets within an hour where
// each costs money: nobody shall make the gateway write without end.
const maxPaidReplies = 10

// reply answers and ends the message. Where answers cost money, one too many is not given,
// unless it tells whose the account is from now on.
func (w *Worker) reply(in gateway.StoredMessage, v decision, outcome, text string) decision {
	v.outcome, v.commitNow = outcome, true
	rows := w.replyRows(in, text)
	if adapters.TraitsOf(in.Channel).Paid && !v.changesOwner() {
		for i := range rows {
			rows[i].MaxPerHour = maxPaidReplies
		}
	}
	v.replies = append(v.replies, rows...)
	return v
}

// requirePrivate does f in a private conversation, and asks for one elsewhere.
func (w *Worker) requirePrivate(in gateway.StoredMessage, v decision, f func() decision) decision {
	if in.Message.Chat.Group {
		return w.reply(in, v, "not_private", textPrivateOnly)
	}
	return f()
}

// handleClaim rules on a claim. Nothing is redeemed but what the sender wrote here, now,
// in private, with the own account.
func (w *Worker) handleClaim(ctx context.Context, in gateway.StoredMessage, v decision, t claim.ParsedText) (decision, error) {
	m := in.Message
	if m.Chat.Group && claim.IsInviteCode(t.Code) {
		r, err := w.Claims.DecideExposedInvite(ctx, w.newAttempt(in, t))
		if err != nil {
			return v, err
		}
		r.Attempt.Code = ""
		v.claim = &r
	}
	switch {
	case m.Chat.Group:
		return w.reply(in, v, "not_private", textPrivateOnly), nil
	case m.UnprovenReason != "" || m.Kind != adapters.Text:
		return w.reply(in, v, "not_proven", textPrivateOnly), nil
	case t.Code == "":
		return w.reply(in, v, "hint", textHint), nil
	case claim.IsInviteCode(t.Code) && !t.Command:
		return w.reply(in, v, "hint", textInviteHint), nil
	}
	a := w.newAttempt(in, t)
	r, err := w.Claims.DecideRedemption(ctx, a)
	if errors.Is(err, claim.ErrCodeStoreUnavailable) {
		return w.deferClaim(ctx, in, v, a, err)
	}
	if err != nil {
		return v, err
	}
	return w.applyClaimDecision(in, v, r), nil
}

func (w *Worker) newAttempt(in gateway.StoredMessage, t claim.ParsedText) claim.Attempt {
	a := claim.Attempt{
		TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), SenderID: in.Message.Sender.ID,
		IdentityID: in.Sender.ID, MessageID: in.ID, Code: t.Code, ReceivedAt: in.ReceivedAt, InstanceIdentityID: in.Sender.ID,
		Paid: adapters.TraitsOf(in.Channel).Paid,
	}
	if in.Sender.InstanceID != in.InstanceID {
		a.InstanceIdentityID = gateway.NewID()
	}
	return a
}

// deferClaim waits for the proofs, tells the sender once when that takes longer, and
// gives up when the code would have expired meanwhile.
func (w *Worker) deferClaim(ctx context.Context, in gateway.StoredMessage, v decision, a claim.Attempt, cause error) (decision, error) {
	if !errors.Is(cause, claim.ErrCodeStoreUnavailable) {
		return v, cause
	}
	w.Log.WarnContext(ctx, "claim waits for proofs", "message", in.ID, "waited", in.Age.Round(time.Second), "error", cause)
	if in.Age > claim.CodeTTL+claim.CodeGracePeriod {
		r, err := w.Claims.DecideWithoutCheck(ctx, a)
		if err != nil {
			return v, err
		}
		return w.applyClaimDecision(in, v, r), nil
	}
	// As long again as it has waited: 1, 2, 4 … 30 s, and one look in the span in which
	// the sender is told.
	wait := min(30*time.Second, max(time.Second, in.Age))
	if in.Age >= checkNoticeDelay && in.Age < 2*checkNoticeDelay {
		v.replies = w.replyRows(in, textChecking)
	}
	v.outcome, v.commitNow, v.deferred, v.retryAt = "waits", true, true, w.Now().Add(wait)
	return v, nil
}

// applyClaimDecision answers a ruling, and on success tells everybody whom it concerns.
func (w *Worker) applyClaimDecision(in gateway.StoredMessage, v decision, r claim.Decision) decision {
	r.Attempt.Code = ""
	v.claim = &r
	text := map[claim.Outcome]string{
		claim.Granted: textVerified, claim.AlreadyVerified: textAlreadyVerified, claim.Declined: textDeclined, claim.CodeLost: textCodeLost, claim.Throttled: throttledText(r.RetryAfter),
	}[r.Outcome]
	if r.Silent {
		v.outcome, v.commitNow = string(r.Outcome), true
		return v
	}
	v = w.reply(in, v, string(r.Outcome), text)
	switch {
	case r.Grant != nil:
		return w.announceLink(in, v, r, in.Sender.ID)
	case r.Redeem != nil:
		return w.announceLink(in, w.linkRedeemer(in, v, r), r, r.Redeem.IdentityID)
	}
	return v
}

// linkRedeemer makes sure that who opened an invite has an identity within the instance. Who
// was known by one of all instances gets another: an invite holds for one instance.
func (w *Worker) linkRedeemer(in gateway.StoredMessage, v decision, r claim.Decision) decision {
	if in.Sender.InstanceID != in.InstanceID && r.Redeem.IdentityID == r.Attempt.InstanceIdentityID {
		a, m := in.SenderAddress(), in.Message
		v.created = &identity.Identity{
			ID: r.Redeem.IdentityID, TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel, ExternalID: a.ExternalID,
			DisplayName: m.Sender.Name, Username: m.Sender.Username,
		}
	}
	v.setParticipant = true
	return v
}

// announceLink tells the runtime and the customer's other accounts of a new one.
func (w *Worker) announceLink(in gateway.StoredMessage, v decision, r claim.Decision, identityID string) decision {
	v.deliveries = append(v.deliveries, gateway.Delivery{
		ID: gateway.NewID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, IdentityID: identityID, Type: "identity.verified",
		Parked: in.Instance.AgentURL == "",
	})
	v.replies = append(v.replies, w.linkNotices(in, r)...)
	return v
}

// linkNotices tell the customer's other verified identities of the new one, now and
// again a day later: who was tricked into handing over a code may only then look.
func (w *Worker) linkNotices(in gateway.StoredMessage, r claim.Decision) []gateway.OutboxRow {
	var rows []gateway.OutboxRow
	for _, o := range r.LinkedConversations {
		row := gateway.OutboxRow{
			TenantID: in.TenantID, ConversationID: gateway.ConversationID(o.InstanceID, adapters.Channel(o.Channel), o.ChatID), InstanceID: o.InstanceID,
			Channel: adapters.Channel(o.Channel), Recipient: o.Recipient, Chat: adapters.Chat{ID: o.ChatID}, Cause: "notice", MessageID: in.ID,
		}
		a := w.Adapters[row.Channel]
		rows = append(rows, gateway.SplitReply(a, row, fmt.Sprintf(textNewAccount, adapters.TraitsOf(in.Channel).DisplayName))...)
		row.Cause, row.Delay = "reminder", 24*time.Hour
		rows = append(rows, gateway.SplitReply(a, row, fmt.Sprintf(textNewAccountReminder, adapters.TraitsOf(in.Channel).DisplayName))...)
	}
	return rows
}

// handleUnlink asks back once, then removes the link.
func (w *Worker) handleUnlink(in gateway.StoredMessage, v decision) decision {
	if in.Message.UnprovenReason != "" {
		return w.reply(in, v, "not_proven", textPrivateOnly)
	}
	if in.Sender.CustomerID == "" {
		return w.reply(in, v, "not_linked", textNotLinked)
	}
	u := &gateway.UnlinkRequest{TenantID: in.TenantID, IdentityID: in.Sender.ID}
	v.unlink = u
	if !in.UnlinkRequested {
		u.Requested = true
		return w.reply(in, v, "unlink_asked", textUnlinkAsk)
	}
	u.Confirmed = true
	v.events = append(v.events, unlinkEvent(in))
	v.setParticipant, v.updated = false, nil
	return w.reply(in, v, "unlinked", textUnlinked)
}

// unlinkEvent is the audit log's word on who owned the identity.
func unlinkEvent(in gateway.StoredMessage) identity.Event {
	return identity.Event{
		TenantID: in.TenantID, Kind: "identity.unlinked", Actor: identity.Actor("sender:" + in.Sender.ID), CustomerID: in.Sender.CustomerID,
		IdentityID: in.Sender.ID, InstanceID: in.InstanceID, MessageID: in.ID,
		Detail: map[string]string{"channel": string(in.Channel), "external_id": in.Message.Sender.ID},
	}
}
