package simulator

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A TwilioOption changes an inbound message or the form of its webhook.
type TwilioOption func(m *twilioMessage, form url.Values)

// TwilioParam sets a parameter of the webhook.
func TwilioParam(name, value string) TwilioOption {
	return func(_ *twilioMessage, form url.Values) { form.Set(name, value) }
}

// TwilioMedia attaches a file with this content type.
func TwilioMedia(contentType string) TwilioOption {
	return func(m *twilioMessage, form url.Values) {
		n, sid := strconv.Itoa(len(m.media)), newTwilioSID("ME")
		m.media = append(m.media, twilioMedia{sid, contentType})
		form.Set("MediaUrl"+n, fmt.Sprintf(
			"https://api.twilio.com/2010-04-01/Accounts/%s/Messages/%s/Media/%s", m.account, m.sid, sid))
		form.Set("MediaContentType"+n, contentType)
		form.Set("NumMedia", strconv.Itoa(len(m.media)))
	}
}

// SendText sends a message from a person to a number, and posts its webhook with all retries, which
// takes at most 30 seconds. It returns the SID of the message, or "" if the number does not exist.
// On WhatsApp both addresses begin with "whatsapp:".
//
// On SMS, Twilio acts on keywords such as STOP, START and HELP, and posts the webhook as well.
func (t *Twilio) SendText(from, to, body string, options ...TwilioOption) (sid string) {
	sid = t.recordInbound(from, to, body, options)
	t.Redeliver(sid)
	return sid
}

// recordInbound adds an inbound message to the log and prepares its webhook.
func (t *Twilio) recordInbound(from, to, body string, options []TwilioOption) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.findNumber(to)
	if n == nil {
		return ""
	}
	m := &twilioMessage{
		account: n.account, sid: newTwilioSID("SM"), direction: "inbound", from: from, to: to, body: body,
		status: "received", created: time.Now(),
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
	t.deliveries[m.sid] = &twilioDelivery{
		message: m, url: u, fallback: n.fallbackURL, form: form, token: newTwilioSID(""),
	}
	t.Add(Line{ID: m.sid, Chat: from, Sender: from, Text: body})
	if !isWhatsApp(to) {
		t.applyKeyword(m)
	}
	return m.sid
}

// applyKeyword updates the opt-out state and replies if the message is a keyword. The caller must
// hold t.mu.
func (t *Twilio) applyKeyword(m *twilioMessage) {
	conversation, reply := conversationKey(m.from, m.to), ""
	switch strings.ToUpper(strings.TrimSpace(m.body)) {
	case "STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT":
		t.optedOut[conversation] = true
		reply = "You have successfully been unsubscribed. You will not receive any more messages from this number. " +
			"Reply START to resubscribe."
	case "START", "YES", "UNSTOP":
		if t.optedOut[conversation] {
			reply = "You have successfully been re-subscribed to messages from this number. Reply HELP for help. " +
				"Reply STOP to unsubscribe. Msg&Data Rates May Apply."
		}
		delete(t.optedOut, conversation)
	case "HELP", "INFO":
		reply = "Reply STOP to unsubscribe. Msg&Data Rates May Apply."
	}
	if reply != "" {
		t.Add(Line{ID: newTwilioSID("SM"), Chat: m.from, Sender: "twilio", Text: reply})
	}
}

// webhookForm returns the parameters of the webhook of an inbound message.
func (m *twilioMessage) webhookForm() url.Values {
	form := url.Values{
		"MessageSid": {m.sid}, "SmsSid": {m.sid}, "SmsMessageSid": {m.sid}, "AccountSid": {m.account},
		"From": {m.from}, "To": {m.to}, "Body": {m.body}, "NumMedia": {"0"},
		"NumSegments": {strconv.Itoa(segmentCount(m.body))}, "SmsStatus": {"received"}, "ApiVersion": {"2010-04-01"},
	}
	if isWhatsApp(m.to) {
		form.Set("WaId", strings.TrimPrefix(m.from, whatsAppPrefix+"+"))
		form.Set("ProfileName", "Steve")
		form.Set("MessageType", "text")
		return form
	}
	for _, party := range []string{"From", "To"} {
		for name, value := range map[string]string{"City": "", "State": "CA", "Zip": "", "Country": "US"} {
			form.Set(party+name, value)
		}
	}
	return form
}
