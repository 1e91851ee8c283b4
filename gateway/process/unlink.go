package process

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// maxUnlinkFailures is the number of wrong words in a day after which an account can only be unlinked
// by staff. A sender who cannot read the replies has three guesses in 3,200,000 a day.
const maxUnlinkFailures = 3

// handleUnlink unlinks the sender's account after a confirmation. A second /unlink confirms it. Where
// only the carrier vouches for the sender, someone else may have sent both: there the person must
// repeat a word from the reply, which goes to the real owner of the number.
func (w *Worker) handleUnlink(ctx context.Context, in gateway.StoredMessage, d decision) (decision, error) {
	switch {
	case in.Message.Chat.Group:
		return w.reply(in, d, "not_private", textPrivateOnly), nil
	case in.Message.UnprovenReason != "":
		return w.reply(in, d, "not_proven", textUnlinkNotProven), nil
	case in.Sender.CustomerID == "":
		return w.reply(in, d, "not_linked", textNotLinked), nil
	}
	needsWord := adapters.TraitsOf(in.Channel).CarrierOnly
	word := letters(in.Message.Command.Args)
	switch {
	case needsWord && in.UnlinkFailures >= maxUnlinkFailures:
		return w.reply(in, d, "unlink_refused", textUnlinkRefused), nil
	case !in.UnlinkRequested, needsWord && (word == "" || in.UnlinkWord == ""):
		return w.requestUnlink(in, d, needsWord), nil
	case needsWord && word != in.UnlinkWord:
		d.unlink = &gateway.UnlinkRequest{TenantID: in.TenantID, IdentityID: in.Sender.ID, Failed: true}
		d.events = append(d.events, unlinkEvent(in, "identity.unlink_failed"))
		return w.reply(in, d, "unlink_failed", textUnlinkWrongWord), nil
	}
	return w.unlink(ctx, in, d)
}

// letters returns the letters of a typed word in upper case.
func letters(s string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return r
		}
		return -1
	}, s))
}

// requestUnlink asks the sender for a confirmation, with a new word if one is needed.
func (w *Worker) requestUnlink(in gateway.StoredMessage, d decision, needsWord bool) decision {
	d.unlink = &gateway.UnlinkRequest{TenantID: in.TenantID, IdentityID: in.Sender.ID, Requested: true}
	if !needsWord {
		return w.reply(in, d, "unlink_asked", textUnlinkAsk)
	}
	d.unlink.Word = claim.NewConfirmationWord()
	return w.reply(in, d, "unlink_asked", fmt.Sprintf(textUnlinkAskWord, d.unlink.Word))
}

// unlink unlinks the sender's account, and notifies the customer's other identities.
func (w *Worker) unlink(ctx context.Context, in gateway.StoredMessage, d decision) (decision, error) {
	linked, err := w.Store.LinkedConversations(ctx, in.TenantID, in.Sender.ID)
	if err != nil {
		return d, err
	}
	d.unlink = &gateway.UnlinkRequest{TenantID: in.TenantID, IdentityID: in.Sender.ID, Confirmed: true}
	d.events = append(d.events, unlinkEvent(in, "identity.unlinked"))
	d.setParticipant, d.updated = false, nil
	d = w.reply(in, d, "unlinked", textUnlinked)
	text := fmt.Sprintf(textUnlinkedNotice, adapters.TraitsOf(in.Channel).DisplayName)
	for _, o := range linked {
		d.replies = append(d.replies, w.noticeRows(in, o, text)...)
	}
	return d, nil
}

// unlinkEvent returns an audit event about the unlinking of the sender's account. It names the
// customer, whose account it is until then.
func unlinkEvent(in gateway.StoredMessage, kind string) identity.Event {
	return identity.Event{
		TenantID: in.TenantID, Kind: kind, Actor: identity.Actor("sender:" + in.Sender.ID),
		CustomerID: in.Sender.CustomerID, IdentityID: in.Sender.ID, InstanceID: in.InstanceID, MessageID: in.ID,
		Detail: map[string]string{"channel": string(in.Channel), "external_id": in.Message.Sender.ID},
	}
}
