package sms

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
)

const (
	lookupWindow = 15 * time.Minute
	clockSkew    = 2 * time.Second // Twilio's times have no fractions, and its clock is not ours

	// trialPrefix is what Twilio puts before every text of a trial account.
	trialPrefix = "Sent from your Twilio trial account - "
)

// A messageRecord is a message in Twilio's log.
type messageRecord struct {
	SID         string `json:"sid"`
	AccountSID  string `json:"account_sid"`
	ServiceSID  string `json:"messaging_service_sid"`
	Direction   string `json:"direction"`
	From        string `json:"from"`
	To          string `json:"to"`
	Body        string `json:"body"`
	NumMedia    string `json:"num_media"`
	DateCreated string `json:"date_created"`
}

func (r messageRecord) createdAt() time.Time {
	at, err := time.Parse(time.RFC1123Z, r.DateCreated)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// Send posts one message from ep's number, or from the number of its Messaging
// Service that the person wrote to. Twilio takes no idempotency key: a reply whose
// earlier attempt may have arrived is looked up in Twilio's log first.
func (a Adapter) Send(ctx context.Context, ep adapters.Endpoint, reply adapters.Reply) (string, error) {
	base, err := accountPath(ep)
	if err != nil {
		return "", newSendError(err)
	}
	form := url.Values{
		"From": {a.twilioAddress(ep.Address)},
		"To":   {a.twilioAddress(recipient(reply))},
		"Body": {reply.Text},
	}
	if isE164(reply.Chat.Thread) {
		form.Set("From", a.twilioAddress(reply.Chat.Thread))
	}
	if reply.StatusURL != "" {
		form.Set("StatusCallback", reply.StatusURL)
	}
	if reply.MaybeSent {
		sid, err := a.findSent(ctx, ep, base, form, earliestAttempt(reply.ID, time.Now()))
		if err != nil {
			return "", newLookupError(err)
		}
		if sid != "" {
			return sid, nil
		}
	}
	var sent messageRecord
	if err := a.post(ctx, ep, a.origin()+base+"/Messages.json", form, &sent); err != nil {
		return "", newSendError(err)
	}
	if !isSentMessageID(sent.SID) {
		return "", newSendError(&callError{maybeSent: true, err: errors.New("the answer names no message")})
	}
	return sent.SID, nil
}

func recipient(reply adapters.Reply) string {
	if reply.Chat.ID != "" {
		return reply.Chat.ID
	}
	return reply.To
}

// findSent looks for a message like form that Twilio took at since or later.
func (a Adapter) findSent(ctx context.Context, ep adapters.Endpoint, base string, form url.Values, since time.Time) (string, error) {
	q := url.Values{"To": form["To"], "From": form["From"], "PageSize": {"50"}}
	var page struct {
		Messages []messageRecord `json:"messages"`
	}
	if err := a.get(ctx, ep, a.origin()+base+"/Messages.json?"+q.Encode(), &page); err != nil {
		return "", err
	}
	for _, m := range page.Messages {
		same := strings.TrimPrefix(m.Body, trialPrefix) == form.Get("Body")
		if same && isSentMessageID(m.SID) && m.Direction != "inbound" && !m.createdAt().Before(since) {
			return m.SID, nil
		}
	}
	return "", nil
}

// earliestAttempt gives a time before which the reply cannot have been sent: an id
// that is a UUID of version 7 says when it was made, and of others it is taken that
// they are minutes old.
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

// newSendError says err in the words every channel shares.
func newSendError(err error) *adapters.SendError {
	var r *apiError
	if errors.As(err, &r) {
		code := r.code
		if code == 0 {
			code = r.status
		}
		return &adapters.SendError{Reason: r.reason(), Code: strconv.Itoa(code), RetryAfter: r.retryAfter, Err: r}
	}
	var l *callError
	if errors.As(err, &l) && l.maybeSent {
		return &adapters.SendError{Reason: adapters.Ambiguous, Err: err}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Err: err}
}

// newLookupError is the error of a look-up that failed: the reply itself is as unknown
// as before, and the next attempt must look again.
func newLookupError(err error) *adapters.SendError {
	e := newSendError(err)
	if e.Retryable() {
		e.Reason = adapters.Ambiguous
	}
	return e
}
