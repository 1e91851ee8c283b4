package sms

import (
	"net/url"
	"slices"
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
	messageType              string   // on WhatsApp
	optOut                   string   // the keyword that Twilio's Advanced Opt-Out recognized
	name, username           string   // of the person's profile
	userIDs                  []string // WhatsApp's IDs of the person, which may accompany or replace the number
	payload, label           string   // of a pressed button or a chosen list entry
	repliedSID               string   // SID of the message to which it replies
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
		return adapters.Message{}, adapters.ErrOtherEndpoint
	}
	payload, label := parseChoice(form)
	in := inboundMessage{
		account: form.Get("AccountSid"), sid: form.Get("MessageSid"),
		from: form.Get("From"), body: form.Get("Body"), messageType: form.Get("MessageType"),
		optOut: form.Get("OptOutType"), name: form.Get("ProfileName"),
		username: firstOf(form, "ProfileUsername", "Username"),
		userIDs:  parseUserIDs(form),
		payload:  payload, label: label,
		repliedSID: form.Get("OriginalRepliedMessageSid"),
		forwarded:  isSet(form, "Forwarded") || isSet(form, "FrequentlyForwarded"),
		media:      a.attachments(form),
		content:    parseContent(form),
	}
	m, ok := a.normalize(in)
	if !ok || isAmbiguous(form) {
		return adapters.Message{}, adapters.ErrForged
	}
	m.Chat.Thread = a.replyFrom(ep, form.Get("To"))
	return m, nil
}

// parseUserIDs returns WhatsApp's IDs of the person. It returns none if anything else that Twilio signed
// contains the name of such a parameter: then the form may not be the one that Twilio signed, as
// isAmbiguous describes, and the IDs may be those of another person.
func parseUserIDs(form url.Values) (ids []string) {
	const name = "ExternalUserId"
	for _, parameter := range []string{name, "Parent" + name} {
		if form.Has(parameter) {
			ids = append(ids, form.Get(parameter))
		}
	}
	if len(ids) > 0 && strings.Count(signedText(form), name) != len(ids) {
		return nil
	}
	return ids
}

// parseChoice returns the value and the label of the button that was pressed or the list entry that
// was chosen. A button without a value has its label as the value.
func parseChoice(form url.Values) (value, label string) {
	label = firstOf(form, "ButtonText", "ListTitle")
	return firstOf(form, "ButtonPayload", "ButtonText", "ListId", "ListTitle"), label
}

// firstOf returns the first parameter of the form that is not empty, or "".
func firstOf(form url.Values, names ...string) string {
	for _, name := range names {
		if v := form.Get(name); v != "" {
			return v
		}
	}
	return ""
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

// replyFrom returns the address to which a person wrote if it is another one of ep's Messaging Service,
// such as another number or an RCS sender, so that the reply comes from the same address. Otherwise it
// returns "".
func (a Adapter) replyFrom(ep adapters.Endpoint, to string) string {
	if to == a.twilioAddress(ep.Address) {
		return ""
	}
	if scheme, _, found := strings.Cut(to, ":"); found && scheme != string(a.Name) {
		return adapters.Sanitize(to, maxLabel)
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
		Key:        in.account + ":" + in.sid,
		ProviderID: in.sid,
		Sender: adapters.Sender{
			ID: id, Name: adapters.Sanitize(in.name, maxLabel),
			Username: adapters.Sanitize(in.username, maxLabel), Aliases: a.aliases(in, id, unproven),
		},
		Chat:           adapters.Chat{ID: id},
		Text:           adapters.Sanitize(in.body, adapters.MaxInboundText),
		Action:         adapters.Sanitize(in.payload, maxAction),
		Media:          in.media,
		Content:        in.content,
		SentAt:         in.sentAt,
		UnprovenReason: unproven,
	}
	if isMessageSID(in.repliedSID) {
		m.ReplyTo = in.repliedSID
	}
	if m.Text == "" {
		m.Text = adapters.Sanitize(in.label, adapters.MaxInboundText)
	}
	if strings.TrimSpace(m.Text) == "" && m.Action == "" && len(m.Media)+len(m.Content) == 0 {
		m.Content = []adapters.Content{{Kind: adapters.Other, Name: in.emptyName()}}
	}
	m.Kind = a.kind(m, in.optOut)
	if m.Kind == adapters.Text || m.Kind == adapters.Media {
		if c, ok := adapters.ParseCommand(strings.TrimSpace(m.Text), ""); ok {
			m.Command = &c
		}
	}
	return m, true
}

// emptyName returns the name of what a message consists of that has neither text nor anything else
// that is known: WhatsApp's type of the message, otherwise its empty Body.
func (in inboundMessage) emptyName() string {
	if name := adapters.Sanitize(in.messageType, maxLabel); name != "" {
		return name
	}
	return "Body"
}

// aliases returns the IDs of the person that WhatsApp sent beside the sender's ID.
func (a Adapter) aliases(in inboundMessage, id string, unproven adapters.UnprovenReason) []string {
	if a.Name != adapters.WhatsApp || unproven == adapters.UnprovenOtherChannel {
		return nil
	}
	var aliases []string
	for _, alias := range in.userIDs {
		if isUserID(alias) && alias != id && !slices.Contains(aliases, alias) {
			aliases = append(aliases, alias)
		}
	}
	return aliases
}

func (a Adapter) kind(m adapters.Message, optOut string) adapters.Kind {
	if m.UnprovenReason != adapters.UnprovenOtherChannel {
		if k := a.keywordKind(m.Text, optOut); k != "" {
			return k
		}
	}
	switch {
	case m.Action != "":
		return adapters.Callback
	case len(m.Media) > 0, strings.TrimSpace(m.Text) == "":
		return adapters.Media
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
