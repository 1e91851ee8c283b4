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
	working  = "One moment …"
	tryAgain = "Sorry, that did not work just now. Please try again."
)

// carrying gives m with the answer that makes Slack deliver again what was not
// stored.
func carrying(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, taken error) {
		if taken != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	}}
}

// commanding gives m with the answers to a slash command. Slack does not deliver
// one again, so the person is asked to.
func commanding(m adapters.Message) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: func(w http.ResponseWriter, taken error) {
		text := working
		if taken != nil {
			text = tryAgain
		}
		answer, _ := json.Marshal(map[string]string{"response_type": "ephemeral", "text": text})
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(answer)
	}}
}

// answering carries no message and answers 200 with text.
func answering(text string) adapters.Inbound {
	return adapters.Inbound{Ack: func(w http.ResponseWriter, _ error) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(text))
	}}
}

// undecodable keeps what Slack signed and we cannot read.
func undecodable(body []byte) adapters.Message {
	return adapters.Message{Key: digest(body), Kind: adapters.Undecodable, Raw: body}
}

// unsupported notes an event nobody needs. It names no sender, so that neither our
// own posts nor another bot's make anybody known.
func unsupported(key string) adapters.Message {
	return adapters.Message{Key: key, Kind: adapters.Unsupported}
}

// digest names a delivery that has no id of its own: the same bytes delivered
// again have the same name.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "raw:" + hex.EncodeToString(sum[:16])
}
