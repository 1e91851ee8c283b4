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

// An inboundMessage is one received message, from a webhook or from Twilio's log.
type inboundMessage struct {
	account, sid, from, body string
	optOut                   string // the keyword that Twilio's Advanced Opt-Out recognized
	name                     string
	payload, label           string // of a pressed button
	repliedSID               string // SID of the message to which it replies
	forwarded                bool
	fromLog                  bool // read from the log, which does not have all that a webhook has
	media                    []adapters.Attachment
	content                  []adapters.Content
	sentAt                   time.Time
}

// parseMessage returns the message of a webhook whose signature is valid. It returns ErrForged if
// the message is not for ep or its form may not be the one that Twilio signed.
func (a Adapter) parseMessage(form url.Values, ep adapters.Endpoint) (adapters.Message, error) {
	if !a.isAddressedTo(ep, form.Get("To"), form.Get("MessagingServiceSid")) || !form.Has("From") {
		return adapters.Message{}, adapters.ErrForged
	}
	in := inboundMessage{
		account: form.Get("AccountSid"), sid: form.Get("MessageSid"),
		from: form.Get("From"), body: form.Get("Body"),
		optOut: form.Get("OptOutType"), name: form.Get("ProfileName"),
		payload: form.Get("ButtonPayload"), label: form.Get("ButtonText"),
		repliedSID: form.Get("OriginalRepliedMessageSid"),
		forwarded:  isSet(form, "Forwarded") || isSet(form, "FrequentlyForwarded"),
		media:      a.attachments(form),
	}
	if location, ok := parseLocation(form); ok {
		in.content = append(in.content, location)
	}
	if in.payload == "" {
		in.payload, in.label = form.Get("ListId"), form.Get("ListTitle")
	}
	m, ok := a.normalize(in)
	if !ok || isAmbiguous(form) {
		return adapters.Message{}, adapters.ErrForged
	}
	m.Chat.Thread = a.poolNumber(ep, form.Get("To"))
	return m, nil
}

// isSet reports whether a parameter of the form is true. Any value that does not say the opposite is
// true, so that a new way of writing it does not hide it.
func isSet(form url.Values, name string) bool {
	switch strings.ToLower(form.Get(name)) {
	case "", "false", "0":
		return false
	}
	return true
}

// poolNumber returns the number to which a person wrote if it is another number of ep's Messaging
// Service, so that the reply comes from the same number. Otherwise it returns "".
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

// normalize returns in as a channel-independent message. ok is false if no genuine message has such
// a sender.
func (a Adapter) normalize(in inboundMessage) (m adapters.Message, ok bool) {
	id, unproven, ok := a.parseSender(in.from)
	if !ok {
		return adapters.Message{}, false
	}
	switch {
	case unproven == adapters.UnprovenOtherChannel: // not a message of this channel
	case in.forwarded:
		unproven = adapters.UnprovenForwarded
	case in.fromLog && a.Name == adapters.WhatsApp:
		unproven = adapters.UnprovenLog
	}
	m = adapters.Message{
		Key:            in.account + ":" + in.sid,
		ProviderID:     in.sid,
		Sender:         adapters.Sender{ID: stripMexicanMobilePrefix(id), Name: adapters.Sanitize(in.name, maxLabel)},
		Chat:           adapters.Chat{ID: id},
		Text:           adapters.Sanitize(in.body, adapters.MaxInboundText),
		Media:          in.media,
		Content:        in.content,
		SentAt:         in.sentAt,
		UnprovenReason: unproven,
	}
	if isMessageSID(in.repliedSID) {
		m.ReplyTo = in.repliedSID
	}
	m.Kind = a.kind(in, unproven)
	switch m.Kind {
	case adapters.Callback:
		m.Action = adapters.Sanitize(in.payload, maxAction)
		if m.Text == "" {
			m.Text = adapters.Sanitize(in.label, adapters.MaxInboundText)
		}
	case adapters.Text, adapters.Media:
		if c, ok := adapters.ParseCommand(strings.TrimSpace(m.Text), ""); ok {
			m.Command = &c
		}
	default: // the text is no command
	}
	return m, true
}

func (a Adapter) kind(in inboundMessage, unproven adapters.UnprovenReason) adapters.Kind {
	if unproven == adapters.UnprovenOtherChannel {
		return adapters.Unsupported
	}
	if k := a.keywordKind(in.body, in.optOut); k != "" {
		return k
	}
	switch {
	case in.payload != "":
		return adapters.Callback
	case len(in.media)+len(in.content) > 0:
		return adapters.Media
	case strings.TrimSpace(in.body) == "":
		return adapters.Unsupported
	}
	return adapters.Text
}

// keywordKind returns the kind of a message that Twilio or the carrier acts on: the value of
// OptOutType if Twilio sent one, otherwise, on SMS, that of a standard keyword which is the whole
// message. It returns "" for any other message.
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
