package telegram

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"

	"hydragate/adapters"
)

const (
	secretHeader = "X-Telegram-Bot-Api-Secret-Token"
	maxBody      = 512 << 10 // of what is kept; no update that is known to be sent comes near
	maxUpdate    = 4 << 20   // the most that Telegram puts into one answer to a poll
	retrySeconds = 5         // how long Telegram is asked to wait when a message could not be stored
)

// Receive takes one update from the webhook. Nothing of the body is read before
// the secret is found right.
func (a *Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	if hook != "" {
		return adapters.Inbound{}, adapters.ErrNoHook
	}
	secrets := ep.Current(adapters.WebhookSecret)
	if len(secrets) == 0 {
		return adapters.Inbound{}, adapters.ErrNoKey
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.ForceQuery || !holdsSecret(r.Header, secrets) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	body, err := adapters.ReadBody(r, maxUpdate)
	if err != nil {
		return adapters.Inbound{}, err
	}
	if len(body) == 0 {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	return adapters.Inbound{Messages: []adapters.Message{readKept(body, ep)}, Ack: acknowledge}, nil
}

// holdsSecret compares hashes, so that the time taken tells neither the secret nor
// its length.
func holdsSecret(h http.Header, secrets []string) bool {
	values := h.Values(secretHeader)
	if len(values) != 1 {
		return false
	}
	got := sha256.Sum256([]byte(values[0]))
	right := 0
	for _, s := range secrets {
		want := sha256.Sum256([]byte(s))
		right |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return right == 1
}

// readKept reads an update, and keeps the beginning of one that is too large aside:
// Telegram holds a chat back, for a day, behind one that is refused.
func readKept(body []byte, ep adapters.Endpoint) adapters.Message {
	if len(body) > maxBody {
		return undecodable(body[:maxBody], ep)
	}
	return read(body, ep)
}

// acknowledge answers without a body: Telegram would carry out a call it finds
// there.
func acknowledge(w http.ResponseWriter, taken error) {
	if taken != nil {
		w.Header().Set("Retry-After", strconv.Itoa(retrySeconds))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
