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
	lookBack = 15 * time.Minute
	clockGap = 2 * time.Second // Twilio's times have no fractions, and its clock is not ours

	// trialPrefix is what Twilio puts before every text of a trial account.
	trialPrefix = "Sent from your Twilio trial account - "
)

// A record is a message in Twilio's log.
type record struct {
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

func (r record) createdAt() time.Time {
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
	base, err := account(ep)
	if err != nil {
		return "", sendError(err)
	}
	form := url.Values{
		"From": {a.wire(ep.Address)},
		"To":   {a.wire(recipient(reply))},
		"Body": {reply.Text},
	}
	if isPhone(reply.Place.Thread) {
		form.Set("From", a.wire(reply.Place.Thread))
	}
	if reply.StatusURL != "" {
		form.Set("StatusCallback", reply.StatusURL)
	}
	if reply.Again {
		sid, err := a.find(ctx, ep, base, form, firstAttempt(reply.ID, time.Now()))
		if err != nil {
			return "", stillUnknown(err)
		}
		if sid != "" {
			return sid, nil
		}
	}
	var sent record
	if err := a.post(ctx, ep, a.origin()+base+"/Messages.json", form, &sent); err != nil {
		return "", sendError(err)
	}
	if !isSentID(sent.SID) {
		return "", sendError(&lost{left: true, err: errors.New("the answer names no message")})
	}
	return sent.SID, nil
}

func recipient(reply adapters.Reply) string {
	if reply.Place.ID != "" {
		return reply.Place.ID
	}
	return reply.To
}

// find looks for a message like form that Twilio took at since or later.
func (a Adapter) find(ctx context.Context, ep adapters.Endpoint, base string, form url.Values, since time.Time) (string, error) {
	q := url.Values{"To": form["To"], "From": form["From"], "PageSize": {"50"}}
	var page struct {
		Messages []record `json:"messages"`
	}
	if err := a.get(ctx, ep, a.origin()+base+"/Messages.json?"+q.Encode(), &page); err != nil {
		return "", err
	}
	for _, m := range page.Messages {
		same := strings.TrimPrefix(m.Body, trialPrefix) == form.Get("Body")
		if same && isSentID(m.SID) && m.Direction != "inbound" && !m.createdAt().Before(since) {
			return m.SID, nil
		}
	}
	return "", nil
}

// firstAttempt gives a time before which the reply cannot have been sent: an id
// that is a UUID of version 7 says when it was made, and of others it is taken that
// they are minutes old.
func firstAttempt(id string, now time.Time) time.Time {
	at := now.Add(-lookBack)
	if len(id) >= 36 {
		if u, err := uuid.Parse(id[:36]); err == nil && u.Version() == 7 {
			sec, nsec := u.Time().UnixTime()
			at = time.Unix(sec, nsec)
		}
	}
	return at.Add(-clockGap)
}

// sendError says err in the words every channel shares.
func sendError(err error) *adapters.SendError {
	var r *refusal
	if errors.As(err, &r) {
		code := r.code
		if code == 0 {
			code = r.status
		}
		return &adapters.SendError{Reason: r.reason(), Code: strconv.Itoa(code), RetryAfter: r.retryAfter, Err: r}
	}
	var l *lost
	if errors.As(err, &l) && l.left {
		return &adapters.SendError{Reason: adapters.Ambiguous, Err: err}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Err: err}
}

// stillUnknown is the error of a look-up that failed: the reply itself is as unknown
// as before, and the next attempt must look again.
func stillUnknown(err error) *adapters.SendError {
	e := sendError(err)
	if e.Again() {
		e.Reason = adapters.Ambiguous
	}
	return e
}
