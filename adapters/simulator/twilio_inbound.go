package simulator

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A TwilioOption adds to a text that a person sends.
type TwilioOption func(m *twilioMessage, form url.Values)

// TwilioParam adds a parameter to the webhook, or replaces one.
func TwilioParam(name, value string) TwilioOption {
	return func(_ *twilioMessage, form url.Values) { form.Set(name, value) }
}

// TwilioMedia attaches a file of this type.
func TwilioMedia(contentType string) TwilioOption {
	return func(m *twilioMessage, form url.Values) {
		n, sid := strconv.Itoa(len(m.media)), newTwilioSID("ME")
		m.media = append(m.media, twilioMedia{sid, contentType})
		form.Set("MediaUrl"+n, fmt.Sprintf("https://api.twilio.com/2010-04-01/Accounts/%s/Messages/%s/Media/%s", m.account, m.sid, sid))
		form.Set("MediaContentType"+n, contentType)
		form.Set("NumMedia", strconv.Itoa(len(m.media)))
	}
}

// SendText makes a person write to a number, posts the webhook and returns when Twilio
// has done what it does about it, which is after 15 seconds at most. It gives the
// SID of the message, and "" when nobody has the number. On WhatsApp the two
// addresses begin with "whatsapp:".
//
// Twilio acts by itself on STOP, START and HELP by SMS, and posts the webhook too.
func (t *Twilio) SendText(from, to, body string, options ...TwilioOption) (sid string) {
	sid = t.recordInbound(from, to, body, options)
	t.Redeliver(sid)
	return sid
}

// recordInbound puts a text into the log and makes its webhook ready.
func (t *Twilio) recordInbound(from, to, body string, options []TwilioOption) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.findNumber(to)
	if n == nil {
		return ""
	}
	m := &twilioMessage{
		account: n.account, sid: newTwilioSID("SM"), direction: "inbound", from: from, to: to, body: body, status: "received", created: time.Now(),
	}
	form := m.webhookForm()
	u := n.smsURL
	if s := t.findService(to); s != nil {
		m.service = s.sid
		form.Set("MessagingServiceSid", s.sid)
		if !s.useNumber {
			u = s.url
		}
	}
	for _, option := range options {
		option(m, form)
	}
	t.messages = append(t.messages, m)
	t.lastInbound[conversationKey(from, to)] = m.created
	t.deliveries[m.sid] = &twilioDelivery{message: m, url: u, fallback: n.fallbackURL, form: form, token: newTwilioSID("")}
	t.Add(Line{ID: m.sid, Chat: from, Sender: from, Text: body})
	if !isWhatsApp(to) {
		t.applyKeyword(m)
	}
	return m.sid
}

// applyKeyword does what Twilio does by itself; t.mu is held.
func (t *Twilio) applyKeyword(m *twilioMessage) {
	talk, say := conversationKey(m.from, m.to), ""
	switch strings.ToUpper(strings.TrimSpace(m.body)) {
	case "STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT":
		t.optedOut[talk] = true
		say = "You have successfully been unsubscribed. You will not receive any more messages from this number. Reply START to resubscribe."
	case "START", "YES", "UNSTOP":
		if t.optedOut[talk] {
			say = "You have successfully been re-subscribed to messages from this number. Reply HELP for help. Reply STOP to unsubscribe. Msg&Data Rates May Apply."
		}
		delete(t.optedOut, talk)
	case "HELP", "INFO":
		say = "Reply STOP to unsubscribe. Msg&Data Rates May Apply."
	}
	if say != "" {
		t.Add(Line{ID: newTwilioSID("SM"), Chat: m.from, Sender: "twilio", Text: say})
	}
}

// webhookForm gives the parameters of the webhook of a text.
func (m *twilioMessage) webhookForm() url.Values {
	form := url.Values{
		"MessageSid": {m.sid}, "SmsSid": {m.sid}, "SmsMessageSid": {m.sid}, "AccountSid": {m.account},
		"From": {m.from}, "To": {m.to}, "Body": {m.body}, "NumMedia": {"0"}, "NumSegments": {strconv.Itoa(segmentCount(m.body))},
		"SmsStatus": {"received"}, "ApiVersion": {"2010-04-01"},
	}
	if isWhatsApp(m.to) {
		form.Set("WaId", strings.TrimPrefix(m.from, whatsAppPrefix+"+"))
		form.Set("ProfileName", "Steve")
		form.Set("MessageType", "text")
		return form
	}
	for _, end := range []string{"From", "To"} {
		for name, value := range map[string]string{"City": "", "State": "CA", "Zip": "", "Country": "US"} {
			form.Set(end+name, value)
		}
	}
	return form
}
