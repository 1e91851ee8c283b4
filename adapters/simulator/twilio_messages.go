package simulator

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// A twilioMessage is a message in Twilio's log.
type twilioMessage struct {
	account, sid, service, direction string
	from, to, body                   string
	status                           string
	code                             int
	media                            []twilioMedia
	created                          time.Time
}

type twilioMedia struct{ sid, contentType string }

const (
	twilioMaxText  = 1600
	whatsAppWindow = 24 * time.Hour
)

func (t *Twilio) createMessage(c twilioCall, form url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	if code, message := t.validateMessage(c, form); code != 0 {
		return twilioError(http.StatusBadRequest, code, message)
	}
	m := &twilioMessage{
		account: c.account, sid: newTwilioSID("SM"), service: form.Get("MessagingServiceSid"), direction: "outbound-api",
		from: t.senderAddress(c, form), to: form.Get("To"), body: form.Get("Body"),
		status: "queued", created: time.Now(),
	}
	t.messages = append(t.messages, m)
	doc := m.doc()
	m.code = t.failureCodes[m.to]
	if isWhatsApp(m.to) && time.Since(t.lastInbound[conversationKey(m.to, m.from)]) > whatsAppWindow {
		m.code = 63016
	}
	if m.code == 0 {
		t.Add(Line{ID: m.sid, Chat: m.to, Text: m.body})
	}
	states := []string{"queued", "sent", "delivered"}
	if m.code != 0 {
		states[2] = "undelivered"
	}
	m.status = states[2]
	if u := form.Get("StatusCallback"); u != "" && t.ctx.Err() == nil {
		if t.OutOfOrder {
			slices.Reverse(states)
		}
		t.posting.Go(func() { t.postStatusCallbacks(m, u, states) })
	}
	return twilioResponse{http.StatusCreated, doc}
}

// validateMessage returns Twilio's error for a message that it rejects. The code is 0 if the message
// is valid. The caller must hold t.mu.
func (t *Twilio) validateMessage(c twilioCall, form url.Values) (code int, message string) {
	to, body, from := form.Get("To"), form.Get("Body"), t.senderAddress(c, form)
	switch {
	case to == "":
		return 21604, "A 'To' phone number is required."
	case body == "" && form.Get("MediaUrl") == "":
		return 21602, "Message body is required."
	case !isE164(strings.TrimPrefix(to, whatsAppPrefix)):
		return 21211, "Invalid 'To' Phone Number: " + to
	case from == "":
		return 21606, "The 'From' phone number provided is not a valid message-capable Twilio phone number " +
			"for this destination."
	case isWhatsApp(from) != isWhatsApp(to):
		return 21910, "Invalid From and To pair. From and To should be of the same channel"
	case len(utf16.Encode([]rune(body))) > twilioMaxText:
		return 21617, "The concatenated message body exceeds the 1600 character limit"
	case t.optedOut[conversationKey(to, from)]:
		return 21610, "Attempt to send to unsubscribed recipient"
	}
	return 0, ""
}

// senderAddress returns the address from which a message is sent. It returns "" if the account has
// no such sender. The caller must hold t.mu.
func (t *Twilio) senderAddress(c twilioCall, form url.Values) string {
	from := form.Get("From")
	for _, s := range t.services {
		if from == "" && s.account == c.account && s.sid == form.Get("MessagingServiceSid") && len(s.addresses) > 0 {
			from = s.addresses[0]
		}
	}
	if n := t.findNumber(from); n != nil && n.account == c.account {
		return from
	}
	return ""
}

// listMessages lists messages, newest first. The URI of the next page has the filters of the
// request and a PageToken, "PA" and the SID of the last message of this page.
func (t *Twilio) listMessages(c twilioCall, form url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	size, err := strconv.Atoi(form.Get("PageSize"))
	if err != nil || size < 1 {
		size = 50
	}
	size = min(size, 1000)
	page, _ := strconv.Atoi(form.Get("Page"))
	var found []*twilioMessage
	for _, m := range slices.Backward(t.messages) {
		if m.account == c.account && m.matches(form) {
			found = append(found, m)
		}
	}
	start, ok := pageStart(found, form.Get("PageToken"))
	if !ok {
		return twilioError(http.StatusBadRequest, 20001, "Invalid PageToken")
	}
	end := min(start+size, len(found))
	docs := []any{}
	for _, m := range found[start:end] {
		docs = append(docs, m.doc())
	}
	var next any
	if end < len(found) {
		q := maps.Clone(form)
		q.Set("Page", strconv.Itoa(page+1))
		q.Set("PageToken", pageTokenPrefix+found[end-1].sid)
		next = accountURI(c) + "/Messages.json?" + q.Encode()
	}
	return twilioResponse{http.StatusOK, map[string]any{
		"messages": docs, "page": page, "page_size": size, "start": start, "end": end,
		"next_page_uri": next, "uri": accountURI(c) + "/Messages.json",
	}}
}

const pageTokenPrefix = "PA"

// pageStart returns the index in found of the first message of the page with this token. ok is
// false if the token is invalid.
func pageStart(found []*twilioMessage, token string) (start int, ok bool) {
	if token == "" {
		return 0, true
	}
	for i, m := range found {
		if token == pageTokenPrefix+m.sid {
			return i + 1, true
		}
	}
	return 0, false
}

// matches reports whether m passes the filters of a list request.
func (m *twilioMessage) matches(form url.Values) bool {
	if to := form.Get("To"); to != "" && to != m.to {
		return false
	}
	if from := form.Get("From"); from != "" && from != m.from {
		return false
	}
	sent := m.created.Truncate(time.Second)
	if at, ok := parseTwilioTime(form.Get("DateSent>")); ok && sent.Before(at) {
		return false
	}
	if at, ok := parseTwilioTime(form.Get("DateSent<")); ok && sent.After(at) {
		return false
	}
	return true
}

func parseTwilioTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func (t *Twilio) listMedia(c twilioCall, _ url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.messages {
		if m.sid != c.sid || m.account != c.account {
			continue
		}
		files := []any{}
		for _, f := range m.media {
			files = append(files, map[string]any{
				"sid": f.sid, "parent_sid": m.sid, "account_sid": m.account, "content_type": f.contentType,
			})
		}
		return twilioResponse{http.StatusOK, map[string]any{
			"media_list": files, "page": 0, "page_size": 50, "next_page_uri": nil,
		}}
	}
	return twilioError(http.StatusNotFound, 20404, "The requested resource was not found")
}

func (m *twilioMessage) doc() map[string]any {
	at := m.created.UTC().Format(time.RFC1123Z)
	uri := "/2010-04-01/Accounts/" + m.account + "/Messages/" + m.sid
	doc := map[string]any{
		"sid": m.sid, "account_sid": m.account, "messaging_service_sid": nil, "api_version": "2010-04-01",
		"direction": m.direction, "from": m.from, "to": m.to, "body": m.body, "status": m.status,
		"num_segments": strconv.Itoa(segmentCount(m.body)), "num_media": strconv.Itoa(len(m.media)),
		"date_created": at, "date_updated": at, "date_sent": at, "error_code": nil, "error_message": nil,
		"price": nil, "price_unit": "USD", "uri": uri + ".json",
		"subresource_uris": map[string]any{"media": uri + "/Media.json"},
	}
	if m.service != "" {
		doc["messaging_service_sid"] = m.service
	}
	if m.code != 0 {
		doc["error_code"] = m.code
	}
	if m.status == "queued" {
		doc["date_sent"] = nil
	}
	return doc
}

// segmentCount returns the number of SMS segments of a text. It treats ASCII as GSM-7 and encodes
// any other text as UCS-2.
func segmentCount(text string) int {
	units, single, part := len(text), 160, 153
	if strings.ContainsFunc(text, func(r rune) bool { return r > 127 }) {
		units, single, part = len(utf16.Encode([]rune(text))), 70, 67
	}
	if units <= single {
		return 1
	}
	return (units + part - 1) / part
}

func isE164(s string) bool {
	if len(s) < 8 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	return !strings.ContainsFunc(s[1:], func(r rune) bool { return r < '0' || r > '9' })
}
