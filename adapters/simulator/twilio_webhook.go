package simulator

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A TwilioAttempt is one request to a webhook.
type TwilioAttempt struct {
	URL    string // without its fragment
	Status int    // 0 without a response
	Err    error  // why there was no response, or why Twilio cannot use it
}

// A twilioDelivery is the webhook of an inbound message and its attempts so far.
type twilioDelivery struct {
	message       *twilioMessage
	url, fallback string
	form          url.Values
	token         string // I-Twilio-Idempotency-Token, the same for all attempts
	attempts      []TwilioAttempt
}

// Attempts returns the webhook requests for a message so far, oldest first.
func (t *Twilio) Attempts(sid string) []TwilioAttempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.deliveries[sid]; d != nil {
		return slices.Clone(d.attempts)
	}
	return nil
}

// Delivered reports whether the last webhook request for a message succeeded: its response was 2xx
// with a body that Twilio can use.
func (t *Twilio) Delivered(sid string) bool {
	attempts := t.Attempts(sid)
	return len(attempts) > 0 && attempts[len(attempts)-1].accepted()
}

func (a TwilioAttempt) accepted() bool { return a.Err == nil && a.Status/100 == 2 }

// Redeliver posts the webhook of a message again, as Twilio may do at any time: first to the number's
// URL, then to the fallback URL. It reports whether one of them accepted it.
func (t *Twilio) Redeliver(sid string) bool {
	t.mu.Lock()
	d := t.deliveries[sid]
	if d == nil || d.url == "" || t.ctx.Err() != nil {
		t.mu.Unlock()
		return false
	}
	t.posting.Add(1)
	t.mu.Unlock()
	defer t.posting.Done()
	last := t.postWithRetries(d, d.url, d.form)
	if !last.accepted() && d.fallback != "" {
		form := maps.Clone(d.form)
		form.Set("ErrorCode", last.errorCode())
		form.Set("ErrorUrl", last.URL)
		last = t.postWithRetries(d, d.fallback, form)
	}
	return last.accepted()
}

func (a TwilioAttempt) errorCode() string {
	if a.Status/100 == 2 {
		return "12300" // invalid content type
	}
	return "11200" // HTTP retrieval failure
}

// A retryPolicy is the retry policy in the fragment of a webhook URL, with Twilio's defaults.
//
// See https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
type retryPolicy struct {
	count       int
	kinds       string
	read, total time.Duration
}

func parseRetryPolicy(fragment string) retryPolicy {
	p := retryPolicy{count: 1, kinds: "ct", read: 15 * time.Second, total: 15 * time.Second}
	q, err := url.ParseQuery(fragment)
	if err != nil {
		return p
	}
	for name, d := range map[string]*time.Duration{"rt": &p.read, "tt": &p.total} {
		if ms, err := strconv.Atoi(q.Get(name)); err == nil && ms > 0 {
			*d = min(*d, time.Duration(ms)*time.Millisecond)
		}
	}
	if n, err := strconv.Atoi(q.Get("rc")); err == nil {
		p.count = min(max(n, 0), 5)
	}
	if q.Has("rp") {
		p.kinds = q.Get("rp")
	}
	return p
}

// shouldRetry reports whether p allows another attempt after a failed one.
func (p retryPolicy) shouldRetry(a TwilioAttempt) bool {
	kind := "ct"
	var ne net.Error
	switch {
	case a.Status/100 == 4:
		kind = "4xx"
	case a.Status/100 == 5:
		kind = "5xx"
	case a.Status != 0:
		return false
	case errors.As(a.Err, &ne) && ne.Timeout():
		kind = "rt"
	}
	for k := range strings.SplitSeq(p.kinds, ",") {
		if k == kind || k == "all" {
			return true
		}
	}
	return false
}

// postWithRetries posts form to u until it is accepted or the retry policy of u is exhausted. It
// returns the last attempt.
func (t *Twilio) postWithRetries(d *twilioDelivery, u string, form url.Values) (last TwilioAttempt) {
	u, fragment, _ := strings.Cut(u, "#")
	p := parseRetryPolicy(fragment)
	ctx, cancel := context.WithTimeout(t.ctx, p.total)
	defer cancel()
	for range 1 + p.count {
		var replies []string
		last, replies = t.postWebhook(ctx, p, u, d, form)
		t.mu.Lock()
		d.attempts = append(d.attempts, last)
		for _, text := range replies {
			t.sendReply(d.message, text)
		}
		t.mu.Unlock()
		if last.accepted() || ctx.Err() != nil || !p.shouldRetry(last) {
			break
		}
	}
	return last
}

// sendReply sends a text of a webhook's response to the sender of in. The caller must hold t.mu.
func (t *Twilio) sendReply(in *twilioMessage, text string) {
	m := &twilioMessage{
		account: in.account, sid: newTwilioSID("SM"), service: in.service, direction: "outbound-reply",
		from: in.to, to: in.from, body: text, status: "delivered", created: time.Now(),
	}
	t.messages = append(t.messages, m)
	if !t.optedOut[conversationKey(m.to, m.from)] {
		t.Add(Line{ID: m.sid, Chat: m.to, Text: text})
	}
}

// postWebhook makes one attempt. It returns the texts in the response, which are for the person.
func (t *Twilio) postWebhook(
	ctx context.Context, p retryPolicy, u string, d *twilioDelivery, form url.Values,
) (a TwilioAttempt, replies []string) {
	ctx, cancel := context.WithTimeout(ctx, p.read)
	defer cancel()
	a.URL = u
	r, err := t.newSignedRequest(ctx, d.message.account, u, form)
	if err != nil {
		a.Err = err
		return a, nil
	}
	r.Header.Set("I-Twilio-Idempotency-Token", d.token)
	resp, err := t.WebhookClient.Do(r)
	if err != nil {
		a.Err = err
		return a, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		a.Err = err
		return a, nil
	}
	a.Status = resp.StatusCode
	if a.Status/100 == 2 {
		replies, a.Err = parseTwiML(resp.Header.Get("Content-Type"), body)
	}
	return a, replies
}

// parseTwiML returns the texts in the response of a webhook: those of TwiML, or the body of a
// text/plain response.
func parseTwiML(contentType string, body []byte) (replies []string, err error) {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil, nil
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	switch kind {
	case "text/plain":
		return []string{string(body)}, nil
	case "text/xml", "application/xml", "text/html":
	default:
		return nil, errors.New("12300: invalid content type")
	}
	var twiml struct {
		XMLName  xml.Name `xml:"Response"`
		Messages []struct {
			Text string `xml:",chardata"`
			Body string `xml:"Body"`
		} `xml:"Message"`
	}
	if err := xml.Unmarshal(body, &twiml); err != nil {
		return nil, errors.New("12100: document parse failure")
	}
	for _, m := range twiml.Messages {
		replies = append(replies, strings.TrimSpace(m.Text+m.Body))
	}
	return replies, nil
}

// postStatusCallbacks posts a status callback for each state. It does not retry.
func (t *Twilio) postStatusCallbacks(m *twilioMessage, u string, states []string) {
	u, _, _ = strings.Cut(u, "#")
	for _, state := range states {
		form := url.Values{
			"MessageSid": {m.sid}, "SmsSid": {m.sid}, "AccountSid": {m.account}, "From": {m.from}, "To": {m.to},
			"MessageStatus": {state}, "SmsStatus": {state}, "ApiVersion": {"2010-04-01"},
		}
		if state == "undelivered" {
			form.Set("ErrorCode", strconv.Itoa(m.code))
		}
		ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
		if r, err := t.newSignedRequest(ctx, m.account, u, form); err == nil {
			if resp, err := t.WebhookClient.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
				_ = resp.Body.Close()
			}
		}
		cancel()
	}
}

// newSignedRequest returns a webhook request with Twilio's signature of the configured URL and the
// sorted parameters.
func (t *Twilio) newSignedRequest(ctx context.Context, account, u string, form url.Values) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	token := t.tokens[account]
	t.mu.Unlock()
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(mac, u)
	for _, name := range slices.Sorted(maps.Keys(form)) {
		_, _ = io.WriteString(mac, name+form.Get(name))
	}
	r.Header.Set("X-Twilio-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	r.Header.Set("User-Agent", "TwilioProxy/1.1")
	return r, nil
}
