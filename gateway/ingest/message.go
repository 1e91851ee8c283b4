package ingest

import (
	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

// newIncomingMessage returns m in the form in which it is stored. Text that may contain a claim
// code is moved to the encrypted Secret, so that no table contains a code in plain text.
func newIncomingMessage(ep adapters.Endpoint, m adapters.Message) gateway.IncomingMessage {
	a := gateway.IncomingMessage{
		ID: uuid.Must(uuid.NewV7()).String(), TenantID: ep.TenantID, InstanceID: ep.InstanceID, Channel: ep.Channel,
		ConversationID: gateway.ConversationID(ep.InstanceID, ep.Channel, m.Chat.ID), Message: m,
	}
	secret := gateway.Secret{Raw: m.Raw, ReplyToken: m.Chat.ReplyToken}
	if redacted, ok := redact(m.Text, ep.Settings[adapters.BotUsername]); ok {
		secret.Text, secret.Command = m.Text, m.Command
		a.Message.Text, a.Message.Command = redacted, nil
	}
	a.Message.Raw, a.Message.Chat.ReplyToken = nil, ""
	if secret.Text != "" || secret.ReplyToken != "" || len(secret.Raw) > 0 {
		a.Secret = &secret
	}
	return a
}

// redact returns what may be stored of a text that may contain a code. It redacts commands for
// other bots as well. It returns false if the text needs no redaction.
func redact(text, botName string) (string, bool) {
	if t, ok := claim.Parse(text, botName); ok {
		return t.Redacted(), true
	}
	if claim.IsAddressedToBot(text) {
		return "/claim ******", true
	}
	return "", false
}

// quarantined returns a message with only the key of a and its bytes, which will be encrypted.
func quarantined(a gateway.IncomingMessage) gateway.IncomingMessage {
	raw := a.Message.Raw
	if a.Secret != nil {
		raw = append(raw, a.Secret.Raw...)
		raw = append(raw, a.Secret.Text...)
	}
	raw = append(raw, a.Message.Text...)
	a.Secret = &gateway.Secret{Raw: raw}
	a.Message = adapters.Message{
		Key:  adapters.Sanitize(a.Message.Key, 200),
		Kind: adapters.Undecodable,
		Chat: adapters.Chat{ID: adapters.Sanitize(a.Message.Chat.ID, 200)},
	}
	a.ConversationID = gateway.ConversationID(a.InstanceID, a.Channel, a.Message.Chat.ID)
	return a
}
