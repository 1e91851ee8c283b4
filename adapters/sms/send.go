package sms

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"hydragate/adapters"
)

const (
	lookupPageSize = 50
	lookupWindow   = 15 * time.Minute
	clockSkew      = time.Minute // Twilio's times are whole seconds, and its clock may differ

	// trialPrefix is what Twilio puts before every text of a trial account.
	trialPrefix = "Sent from your Twilio trial account - "
)

// Send sends one message from the number of ep, or from the number of its Messaging Service to
// which the person wrote if that still belongs to ep, and returns Twilio's SID of the message.
// Twilio has no idempotency key: if an earlier attempt may have succeeded, Send first looks for the
// message in Twilio's log.
func (a Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	twilio, err := a.newAPI(ctx, ep)
	if err != nil {
		return "", newSendError(err)
	}
	params := a.messageParams(ep, reply)
	if reply.MaybeSent {
		sid, err := findSent(twilio, params, earliestAttempt(reply.ID, time.Now()), reply.OtherIDs)
		if err != nil {
			return "", newLookupError(err)
		}
		if sid != "" {
			return sid, nil
		}
	}
	sent, err := twilio.CreateMessage(params)
	if err != nil {
		return "", newSendError(err)
	}
	sid := deref(sent.Sid)
	if !isSentMessageID(sid) {
		return "", newSendError(&callError{maybeSent: true, err: errors.New("response has no message SID")})
	}
	return sid, nil
}

func (a Adapter) messageParams(ep adapters.Endpoint, reply adapters.Reply) *api.CreateMessageParams {
	from, to := a.route(ep, reply.Chat.Thread, recipient(reply))
	params := &api.CreateMessageParams{}
	params.SetFrom(from).SetTo(to).SetBody(reply.Text)
	if reply.StatusURL != "" {
		params.SetStatusCallback(reply.StatusURL)
	}
	return params
}

// recipient returns the address of the person. Of several, it prefers a phone number, which reaches the
// person whether or not it is still shown.
func recipient(reply adapters.Reply) string {
	to := cmp.Or(reply.Chat.ID, reply.To)
	if isE164(reply.Chat.Address) || !isE164(to) {
		return cmp.Or(reply.Chat.Address, to)
	}
	return to
}

// route returns the addresses of a reply as Twilio writes them. It comes from the address to which the
// person wrote, thread, if that still belongs to ep's Messaging Service, and otherwise from that of ep.
func (a Adapter) route(ep adapters.Endpoint, thread, to string) (from, recipient string) {
	scheme, _, hasScheme := strings.Cut(thread, ":")
	switch {
	case ep.Pool.ID == "" || thread == "" || isExcluded(ep.Pool, a.twilioAddress(thread)):
	case hasScheme && scheme+":" == rcsPrefix:
		return thread, rcsPrefix + to
	case hasScheme && strings.HasPrefix(to, scheme+":"):
		return thread, to
	case isE164(thread):
		return a.twilioAddress(thread), a.twilioAddress(to)
	}
	return a.twilioAddress(ep.Address), a.twilioAddress(to)
}

// findSent returns the SID of a message like params that Twilio accepted at since or later, and that is
// none of others. It returns "" if there is none.
func findSent(
	twilio *api.ApiService, params *api.CreateMessageParams, since time.Time, others []string,
) (string, error) {
	filter := &api.ListMessageParams{To: params.To, From: params.From}
	page, err := twilio.PageMessage(filter.SetPageSize(lookupPageSize), "", "")
	if err != nil {
		return "", err
	}
	for _, m := range page.Messages {
		sid := deref(m.Sid)
		same := strings.TrimPrefix(deref(m.Body), trialPrefix) == *params.Body
		if same && isSentMessageID(sid) && !slices.Contains(others, sid) && deref(m.Direction) != "inbound" &&
			!createdAt(m).Before(since) {
			return sid, nil
		}
	}
	return "", nil
}

// createdAt returns when Twilio created a message. It returns the zero time if the log does not
// say so.
func createdAt(m api.ApiV2010Message) time.Time {
	at, err := time.Parse(time.RFC1123Z, deref(m.DateCreated))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// earliestAttempt returns a time before which a reply cannot have been sent: when its ID was made
// if it is a UUID of version 7, otherwise lookupWindow ago.
func earliestAttempt(id string, now time.Time) time.Time {
	at := now.Add(-lookupWindow)
	if len(id) >= 36 {
		if u, err := uuid.Parse(id[:36]); err == nil && u.Version() == 7 {
			sec, nsec := u.Time().UnixTime()
			at = time.Unix(sec, nsec)
		}
	}
	return at.Add(-clockSkew)
}
