package ingest

import (
	"encoding/json"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

// newIncomingMessage returns m in the form in which it is stored. The ID of the sender is normalized,
// and names are made safe to show. Texts that may contain a code are moved to the
// encrypted Secret, so that no table contains a code in plain text. Whether they do is decided when the
// message is processed.
func newIncomingMessage(ep adapters.Endpoint, m adapters.Message) gateway.IncomingMessage {
	if m.UnprovenReason != adapters.UnprovenOtherChannel { // its address is none of this channel
		m.Sender = gateway.NormalizeSender(ep.Channel, m.Sender)
	}
	m.Sender = m.Sender.MapTexts(adapters.Printable)
	a := gateway.IncomingMessage{
		ID: uuid.Must(uuid.NewV7()).String(), TenantID: ep.TenantID, InstanceID: ep.InstanceID, Channel: ep.Channel,
		ConversationID: gateway.ConversationOf(ep.InstanceID, ep.Channel, m.Chat), Message: m,
	}
	if m.Moved != nil {
		move := gateway.NewConversationMove(ep.TenantID, ep.InstanceID, ep.Channel, *m.Moved)
		a.Move, a.ConversationID = &move, move.From
	}
	secret := gateway.Secret{Raw: m.Raw, ReplyToken: m.Chat.ReplyToken}
	a.Message.Raw, a.Message.Chat.ReplyToken = nil, ""
	if redacted, ok := redact(m.Text, ep.Settings[adapters.BotUsername]); ok {
		secret.Text, secret.Command = m.Text, m.Command
		a.Message.Text, a.Message.Command = redacted, nil
	}
	if redacted, ok := redactFields(a.Message); ok {
		whole := m
		whole.Raw, whole.Chat.ReplyToken = nil, ""
		secret.Message, a.Message = &whole, redacted
	}
	if secret.Text != "" || secret.Message != nil || secret.ReplyToken != "" || len(secret.Raw) > 0 {
		a.Secret = &secret
	}
	return a
}

// redactedText replaces a text that may contain a code.
const redactedText = "******"

// maxScannedText is the length of the longest text that is scanned here. Longer ones are redacted
// whatever they contain, so that they do not hold up webhooks.
const maxScannedText = 4096

// redact returns what may be stored of a text that may contain a code. It redacts commands for
// other bots as well. It returns false if the text needs no redaction.
func redact(text, botName string) (string, bool) {
	if t, ok := claim.Parse(text, botName); ok {
		return t.Redacted(), true
	}
	switch {
	case claim.IsAddressedToBot(text):
		return "/claim ******", true
	case mayContainCode(text):
		return redactedText, true
	}
	return "", false
}

func mayContainCode(text string) bool { return len(text) > maxScannedText || len(claim.Scan(text)) > 0 }

// redactFields returns m with the strings other than its text redacted that may contain a code. It
// returns false if there are none.
func redactFields(m adapters.Message) (adapters.Message, bool) {
	found, text := false, m.Text
	m.Text = ""
	m = m.MapTexts(func(s string) string {
		if !mayContainCode(s) {
			return s
		}
		found = true
		return redactedText
	})
	m.Text = text
	return m, found
}

// quarantined returns a message with only the key of a and its bytes, which will be encrypted.
func quarantined(a gateway.IncomingMessage) gateway.IncomingMessage {
	raw := a.Message.Raw
	if a.Secret != nil {
		raw = append(raw, a.Secret.Raw...)
		raw = append(raw, a.Secret.Text...)
		if a.Secret.Message != nil {
			whole, _ := json.Marshal(a.Secret.Message) //nolint:errchkjson // fails for values that JSON cannot represent
			raw = append(raw, whole...)
		}
	}
	raw = append(raw, a.Message.Text...)
	a.Secret = &gateway.Secret{Raw: raw}
	a.Message = adapters.Message{
		Key:  adapters.Sanitize(a.Message.Key, 200),
		Kind: adapters.Undecodable,
		Chat: adapters.Chat{ID: adapters.Sanitize(a.Message.Chat.ID, 200)},
	}
	a.ConversationID = gateway.ConversationOf(a.InstanceID, a.Channel, a.Message.Chat)
	return a
}
