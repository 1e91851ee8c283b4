package sms

import (
	"net/url"
	"strings"
	"time"

	"hydragate/adapters"
)

const (
	maxLabel  = 255
	maxAction = 1024
)

// A inboundMessage is one received message, from a webhook or from Twilio's log.
type inboundMessage struct {
	account, sid, from, body string
	optOut                   string // what Twilio's Advanced Opt-Out made of it
	name                     string
	payload, label           string // of a pressed button
	repliedSID               string // SID of the message answered
	forwarded                bool
	media                    []adapters.Attachment
	sentAt                   time.Time
}

// parseMessage makes a message of a verified webhook for ep.
func (a Adapter) parseMessage(form url.Values, ep adapters.Endpoint) (adapters.Message, error) {
	if !a.isAddressedTo(ep, form.Get("To"), form.Get("MessagingServiceSid")) || !form.Has("From") {
		return adapters.Message{}, adapters.ErrForged
	}
	t := inboundMessage{
		account: form.Get("AccountSid"), sid: form.Get("MessageSid"),
		from: form.Get("From"), body: form.Get("Body"),
		optOut: form.Get("OptOutType"), name: form.Get("ProfileName"),
		payload: form.Get("ButtonPayload"), label: form.Get("ButtonText"),
		repliedSID: form.Get("OriginalRepliedMessageSid"),
		forwarded:  form.Get("Forwarded") == "true" || form.Get("FrequentlyForwarded") == "true",
		media:      a.attachments(form),
	}
	if t.payload == "" {
		t.payload, t.label = form.Get("ListId"), form.Get("ListTitle")
	}
	m, ok := a.normalize(t)
	if !ok || isAmbiguous(signedText(form), t.from, t.sid) {
		return adapters.Message{}, adapters.ErrForged
	}
	m.Chat.Thread = a.poolNumber(ep, form.Get("To"))
	return m, nil
}

// poolNumber gives the number that was written to when it is another one of ep's
// Messaging Service: the answer comes from the number the person knows.
func (a Adapter) poolNumber(ep adapters.Endpoint, to string) string {
	if to == a.twilioAddress(ep.Address) {
		return ""
	}
	number := strings.TrimPrefix(to, whatsAppPrefix)
	if a.twilioAddress(number) != to || !isE164(number) {
		return ""
	}
	return number
}

// normalize says t in the words every channel shares; ok is false when no genuine
// message has such a sender.
func (a Adapter) normalize(t inboundMessage) (m adapters.Message, ok bool) {
	id, unproven, ok := a.parseSender(t.from)
	if !ok {
		return adapters.Message{}, false
	}
	if unproven == "" && t.forwarded {
		unproven = "forwarded"
	}
	m = adapters.Message{
		Key:            t.account + ":" + t.sid,
		ProviderID:     t.sid,
		Sender:         adapters.Sender{ID: stripMexicanMobilePrefix(id), Name: adapters.Sanitize(t.name, maxLabel)},
		Chat:           adapters.Chat{ID: id},
		Text:           adapters.Sanitize(t.body, adapters.MaxInboundText),
		Media:          t.media,
		SentAt:         t.sentAt,
		UnprovenReason: unproven,
	}
	if isMessageSID(t.repliedSID) {
		m.ReplyTo = t.repliedSID
	}
	m.Kind = a.kind(t, unproven)
	switch m.Kind {
	case adapters.Callback:
		m.Action = adapters.Sanitize(t.payload, maxAction)
		if m.Text == "" {
			m.Text = adapters.Sanitize(t.label, adapters.MaxInboundText)
		}
	case adapters.Text, adapters.Media:
		if c, ok := adapters.ParseCommand(strings.TrimSpace(m.Text), ""); ok {
			m.Command = &c
		}
	}
	return m, true
}

func (a Adapter) kind(t inboundMessage, unproven string) adapters.Kind {
	if unproven == otherChannel {
		return adapters.Unsupported
	}
	if k := a.keywordKind(t.body, t.optOut); k != "" {
		return k
	}
	switch {
	case t.payload != "":
		return adapters.Callback
	case len(t.media) > 0:
		return adapters.Media
	case strings.TrimSpace(t.body) == "":
		return adapters.Unsupported
	}
	return adapters.Text
}

// keywordKind reports what the carrier does with the message by itself: by Twilio's own
// word, else when one of the standard keywords is the whole message. WhatsApp has
// no such keywords.
func (a Adapter) keywordKind(body, optOut string) adapters.Kind {
	switch strings.ToUpper(optOut) {
	case "STOP":
		return adapters.OptOut
	case "START":
		return adapters.OptIn
	case "HELP":
		return adapters.Help
	}
	if a.Name != adapters.SMS {
		return ""
	}
	switch strings.ToUpper(strings.TrimSpace(body)) {
	case "STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT":
		return adapters.OptOut
	case "START", "YES", "UNSTOP":
		return adapters.OptIn
	case "HELP", "INFO":
		return adapters.Help
	}
	return ""
}
