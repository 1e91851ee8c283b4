package telegram

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"hydragate/adapters"
)

const (
	secretHeader      = "X-Telegram-Bot-Api-Secret-Token"
	maxBody           = 512 << 10 // of what is kept; no update that is known to be sent comes near
	maxUpdateSize     = 4 << 20   // the most that Telegram puts into one answer to a poll
	retryAfterSeconds = 5         // how long Telegram is asked to wait when a message could not be stored
)

// Receive takes one update from the webhook. Nothing of the body is read before
// the secret is found right.
func (a *Adapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	if hook != "" {
		return adapters.Inbound{}, adapters.ErrUnknownWebhook
	}
	secrets := ep.Current(adapters.WebhookSecret)
	if len(secrets) == 0 {
		return adapters.Inbound{}, adapters.ErrNoKey
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.ForceQuery || !hasValidSecret(r.Header, secrets) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	body, whole, err := readBody(r)
	switch {
	case err != nil:
		return adapters.Inbound{}, err
	case len(body) == 0:
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	m := undecodableMessage(body, ep)
	if whole {
		m = parseUpdate(body, ep)
	}
	return adapters.Inbound{Messages: []adapters.Message{m}, Ack: acknowledge}, nil
}

// hasValidSecret compares hashes, so that the time taken tells neither the secret nor
// its length.
func hasValidSecret(h http.Header, secrets []string) bool {
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

// readBody reads the first maxBody bytes of an update; whole says that this is all. The
// rest is not kept, and the update is taken nonetheless: Telegram holds a chat back, for
// a day, behind one that is refused.
func readBody(r *http.Request) (body []byte, whole bool, err error) {
	if r.ContentLength > maxUpdateSize {
		return nil, false, adapters.ErrTooLarge
	}
	first := &http.Request{Body: io.NopCloser(io.LimitReader(r.Body, maxBody)), ContentLength: min(r.ContentLength, maxBody)}
	if body, err = adapters.ReadBody(first, maxBody); err != nil || len(body) < maxBody {
		return body, true, err
	}
	rest, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxUpdateSize-maxBody))
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("%w: body cut off", adapters.ErrMalformed)
	case rest == maxUpdateSize-maxBody:
		return nil, false, adapters.ErrTooLarge
	}
	return body, rest == 0, nil
}

// acknowledge answers without a body: Telegram would carry out a call it finds
// there.
func acknowledge(w http.ResponseWriter, taken error) {
	if taken != nil {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
