package slack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"hydragate/adapters"
)

// What a person reads who typed a slash command, before the answer itself comes.
const (
	workingText = "One moment …"
	retryText   = "Sorry, that did not work just now. Please try again."
)

// inboundMessage gives m with the answer that makes Slack deliver again what was not
// stored.
func inboundMessage(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, taken error) {
		if taken != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	}}
}

// inboundCommand gives m with the answers to a slash command. Slack does not deliver
// one again, so the person is asked to.
func inboundCommand(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, taken error) {
		text := workingText
		if taken != nil {
			text = retryText
		}
		answer, _ := json.Marshal(map[string]string{"response_type": "ephemeral", "text": text})
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(answer)
	}}
}

// plainResponse carries no message and answers 200 with text.
func plainResponse(text string) adapters.Inbound {
	return adapters.Inbound{Ack: func(w http.ResponseWriter, _ error) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(text))
	}}
}

// undecodableMessage keeps what Slack signed and we cannot read.
func undecodableMessage(body []byte) adapters.Message {
	return adapters.Message{Key: digestKey(body), Kind: adapters.Undecodable, Raw: body}
}

// unsupportedMessage notes an event nobody needs. It names no sender, so that neither our
// own posts nor another bot's make anybody known.
func unsupportedMessage(key string) adapters.Message {
	return adapters.Message{Key: key, Kind: adapters.Unsupported}
}

// digestKey names a delivery that has no id of its own: the same bytes delivered
// again have the same name.
func digestKey(body []byte) string {
	sum := sha256.Sum256(body)
	return "raw:" + hex.EncodeToString(sum[:16])
}
