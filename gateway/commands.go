package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/identity"
)

// strayPatience is how long letters alone wait for the word whether they are
// somebody's code. Then they go no further, and the sender is told.
const strayPatience = time.Minute

// command answers what is meant for the gateway itself; mine says that it was.
func (w *Worker) command(ctx context.Context, in Inbound, v verdict) (out verdict, mine bool, err error) {
	me, err := w.me(ctx, in)
	if err != nil {
		return v, false, err
	}
	t, ok := claim.Read(in.Message.Text, me)
	if ok && !t.Command && (!in.CodeWaits || claim.IsInvite(t.Code)) {
		// Six letters alone are an ordinary word, and twelve nothing of ours, unless they
		// are somebody's code.
		ok, err = w.Desk.Stray(ctx, w.attempt(in, t))
		if err != nil && !errors.Is(err, claim.ErrNoProofs) {
			return v, false, err
		}
		if err != nil && in.Age < strayPatience {
			v, err = w.unproven(ctx, in, v, w.attempt(in, t), err)
			return v, true, err
		}
		if err != nil {
			return w.say(in, v, "withheld", textLost), true, nil
		}
	}
	if ok {
		v, err := w.claim(ctx, in, v, t)
		return v, true, err
	}
	if in.Sealed && claim.Addressed(in.Message.Text) {
		v.outcome = "for_another_bot"
		return v, true, nil
	}
	c := in.Message.Command
	if c == nil || in.Message.Kind != adapters.Text {
		return v, false, nil
	}
	switch c.Name {
	case "start":
		return w.say(in, v, "welcomed", welcome(in)), true, nil
	case "help":
		return w.say(in, v, "helped", textHelp), true, nil
	case "whoami":
		return w.privately(in, v, func() verdict { return w.say(in, v, "told", textWhoami(in.standing(w.Now()))) }), true, nil
	case "unlink":
		return w.privately(in, v, func() verdict { return w.unlink(in, v) }), true, nil
	}
	return v, false, nil
}

func welcome(in Inbound) string {
	if in.Instance.WelcomeText != "" {
		return in.Instance.WelcomeText
	}
	return textWelcome
}

// paidAnswers is how many answers of the house's own a person gets within an hour where
// each costs money: nobody shall make the gateway write without end.
const paidAnswers = 10

// paid reports whether it costs money to write on a channel.
func paid(c adapters.Channel) bool { return c == adapters.SMS || c == adapters.WhatsApp }

// say answers and ends the message. Where answers cost money, one too many is not given,
// unless it tells whose the account is from now on.
func (w *Worker) say(in Inbound, v verdict, outcome, text string) verdict {
	v.outcome, v.alone = outcome, true
	rows := w.answer(in, text)
	if paid(in.Channel) && !v.changesOwner() {
		for i := range rows {
			rows[i].AtMost = paidAnswers
		}
	}
	v.replies = append(v.replies, rows...)
	return v
}

// changesOwner reports whether the message makes the account somebody's or nobody's, or
// asks whether it shall.
func (v verdict) changesOwner() bool {
	return v.unlink != nil || v.claim != nil && (v.claim.Grant != nil || v.claim.Admit != nil)
}

// privately does f in a private conversation, and asks for one elsewhere.
func (w *Worker) privately(in Inbound, v verdict, f func() verdict) verdict {
	if in.Message.Place.Group {
		return w.say(in, v, "not_private", textPrivately)
	}
	return f()
}

// claim rules on a claim. Nothing is redeemed but what the sender wrote here, now,
// in private, with the own account.
func (w *Worker) claim(ctx context.Context, in Inbound, v verdict, t claim.Typed) (verdict, error) {
	m := in.Message
	if m.Place.Group && claim.IsInvite(t.Code) {
		r, err := w.Desk.Overhear(ctx, w.attempt(in, t))
		if err != nil {
			return v, err
		}
		r.Attempt.Code = ""
		v.claim = &r
	}
	switch {
	case m.Place.Group:
		return w.say(in, v, "not_private", textPrivately), nil
	case m.Unproven != "" || m.Kind != adapters.Text:
		return w.say(in, v, "not_proven", textPrivately), nil
	case t.Code == "":
		return w.say(in, v, "hint", textHint), nil
	case claim.IsInvite(t.Code) && !t.Command:
		return w.say(in, v, "hint", textInviteHint), nil
	}
	a := w.attempt(in, t)
	r, err := w.Desk.Rule(ctx, a)
	if errors.Is(err, claim.ErrNoProofs) {
		return w.unproven(ctx, in, v, a, err)
	}
	if err != nil {
		return v, err
	}
	return w.ruled(in, v, r), nil
}

func (w *Worker) attempt(in Inbound, t claim.Typed) claim.Attempt {
	a := claim.Attempt{
		TenantID: in.TenantID, InstanceID: in.InstanceID, Channel: string(in.Channel), SenderID: in.Message.Sender.ID,
		IdentityID: in.Sender.ID, MessageID: in.ID, Code: t.Code, ReceivedAt: in.ReceivedAt, Within: in.Sender.ID,
	}
	if in.Sender.InstanceID != in.InstanceID {
		a.Within = newID()
	}
	return a
}

// unproven waits for the proofs, tells the sender once when that takes longer, and
// gives up when the code would have expired meanwhile.
func (w *Worker) unproven(ctx context.Context, in Inbound, v verdict, a claim.Attempt, cause error) (verdict, error) {
	if !errors.Is(cause, claim.ErrNoProofs) {
		return v, cause
	}
	w.Log.WarnContext(ctx, "claim waits for proofs", "message", in.ID, "waited", in.Age.Round(time.Second), "error", cause)
	if in.Age > claim.Life+claim.Grace {
		r, err := w.Desk.GiveUp(ctx, a)
		if err != nil {
			return v, err
		}
		return w.ruled(in, v, r), nil
	}
	// As long again as it has waited: 1, 2, 4 … 30 s, and one look in the span in which
	// the sender is told.
	wait := min(30*time.Second, max(time.Second, in.Age))
	if in.Age >= proofPatience && in.Age < 2*proofPatience {
		v.replies = w.answer(in, textChecking)
	}
	v.outcome, v.alone, v.waits, v.next = "waits", true, true, w.Now().Add(wait)
	return v, nil
}

// ruled answers a ruling, and on success tells everybody whom it concerns.
func (w *Worker) ruled(in Inbound, v verdict, r claim.Ruling) verdict {
	r.Attempt.Code = ""
	v.claim = &r
	text := map[claim.Outcome]string{
		claim.Granted: textVerified, claim.Already: textAlready, claim.Declined: textDeclined, claim.Lost: textLost, claim.Throttled: textWait(r.Wait),
	}[r.Outcome]
	if r.Silent {
		v.outcome, v.alone = string(r.Outcome), true
		return v
	}
	v = w.say(in, v, string(r.Outcome), text)
	switch {
	case r.Grant != nil:
		return w.announce(in, v, r, in.Sender.ID)
	case r.Admit != nil:
		return w.announce(in, w.admit(in, v, r), r, r.Admit.IdentityID)
	}
	return v
}

// admit makes sure that who opened an invite has an identity within the instance. Who
// was known by one of all instances gets another: an invite holds for one instance.
func (w *Worker) admit(in Inbound, v verdict, r claim.Ruling) verdict {
	if in.Sender.InstanceID != in.InstanceID && r.Admit.IdentityID == r.Attempt.Within {
		a, m := in.address(), in.Message
		v.met = &identity.Identity{
			ID: r.Admit.IdentityID, TenantID: a.TenantID, InstanceID: a.InstanceID, Channel: a.Channel, ExternalID: a.ExternalID,
			DisplayName: m.Sender.Name, Username: m.Sender.Username,
		}
	}
	v.isPerson = true
	return v
}

// announce tells the runtime and the customer's other accounts of a new one.
func (w *Worker) announce(in Inbound, v verdict, r claim.Ruling, identityID string) verdict {
	v.deliver = append(v.deliver, Delivery{
		ID: newID(), TenantID: in.TenantID, ConversationID: in.ConversationID, InstanceID: in.InstanceID, IdentityID: identityID, Type: "identity.verified",
		Parked: in.Instance.AgentURL == "",
	})
	v.replies = append(v.replies, w.notices(in, r)...)
	return v
}

// notices tell the customer's other verified identities of the new one, now and
// again a day later: who was tricked into handing over a code may only then look.
func (w *Worker) notices(in Inbound, r claim.Ruling) []OutboxRow {
	var rows []OutboxRow
	for _, o := range r.Others {
		row := OutboxRow{
			TenantID: in.TenantID, ConversationID: ConversationID(o.InstanceID, adapters.Channel(o.Channel), o.PlaceID), InstanceID: o.InstanceID,
			Channel: adapters.Channel(o.Channel), Recipient: o.Recipient, Place: adapters.Place{ID: o.PlaceID}, Cause: "notice", MessageID: in.ID,
		}
		a := w.Adapters[row.Channel]
		rows = append(rows, Replies(a, row, fmt.Sprintf(textNewAccount, channelName(string(in.Channel))))...)
		row.Cause, row.Wait = "reminder", 24*time.Hour
		rows = append(rows, Replies(a, row, fmt.Sprintf(textStillAccount, channelName(string(in.Channel))))...)
	}
	return rows
}

// unlink asks back once, then removes the link.
func (w *Worker) unlink(in Inbound, v verdict) verdict {
	if in.Message.Unproven != "" {
		return w.say(in, v, "not_proven", textPrivately)
	}
	if in.Sender.CustomerID == "" {
		return w.say(in, v, "not_linked", textNotLinked)
	}
	u := &Unlinking{TenantID: in.TenantID, IdentityID: in.Sender.ID}
	v.unlink = u
	if !in.UnlinkAsked {
		u.Asked = true
		return w.say(in, v, "unlink_asked", textUnlinkAsk)
	}
	u.Confirmed = true
	v.events = append(v.events, unlinked(in))
	v.isPerson, v.seen = false, nil
	return w.say(in, v, "unlinked", textUnlinked)
}

// unlinked is the audit log's word on who owned the identity.
func unlinked(in Inbound) identity.Event {
	return identity.Event{
		TenantID: in.TenantID, Kind: "identity.unlinked", Actor: identity.Actor("sender:" + in.Sender.ID), CustomerID: in.Sender.CustomerID,
		IdentityID: in.Sender.ID, InstanceID: in.InstanceID, MessageID: in.ID,
		Detail: map[string]string{"channel": string(in.Channel), "external_id": in.Message.Sender.ID},
	}
}
