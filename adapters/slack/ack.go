package slack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"hydragate/adapters"
)

// The immediate responses to a slash command. The reply itself follows.
const (
	workingText = "One moment …"
	retryText   = "Sorry, that did not work just now. Please try again."
)

// inboundMessage returns m with an acknowledgement that makes Slack redeliver a message that was
// not stored.
func inboundMessage(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, err error) {
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	}}
}

// inboundCommand returns m with the response to a slash command. Slack does not redeliver
// commands, so the person is asked to try again if it was not stored.
func inboundCommand(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, err error) {
		text := workingText
		if err != nil {
			text = retryText
		}
		answer, _ := json.Marshal(map[string]string{"response_type": "ephemeral", "text": text})
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(answer)
	}}
}

// plainResponse returns an Inbound without messages whose acknowledgement is text.
func plainResponse(text string) adapters.Inbound {
	return adapters.Inbound{Ack: func(w http.ResponseWriter, _ error) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(text))
	}}
}

// undecodableMessage returns a message with an authenticated body that cannot be decoded.
func undecodableMessage(body []byte) adapters.Message {
	return adapters.Message{Key: digestKey(body), Kind: adapters.Undecodable, Raw: body}
}

// unsupportedMessage returns a message for an event that is not processed. It has no sender, so
// that posts of bots do not create unknown senders.
func unsupportedMessage(key string) adapters.Message {
	return adapters.Message{Key: key, Kind: adapters.Unsupported}
}

// digestKey returns the key of a delivery without an ID, derived from its bytes.
func digestKey(body []byte) string {
	sum := sha256.Sum256(body)
	return "raw:" + hex.EncodeToString(sum[:16])
}
