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
	maxBody           = 512 << 10 // of what is stored; known updates are much smaller
	maxUpdateSize     = 4 << 20   // maximum of a response of getUpdates
	retryAfterSeconds = 5         // sent if a message could not be stored
)

// Receive returns the message in one webhook request. It does not read the body before it has
// checked the secret token.
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

// hasValidSecret compares hashes, so that the time taken reveals neither the secret nor its
// length.
func hasValidSecret(h http.Header, secrets []string) bool {
	values := h.Values(secretHeader)
	if len(values) != 1 {
		return false
	}
	got := sha256.Sum256([]byte(values[0]))
	equal := 0
	for _, s := range secrets {
		want := sha256.Sum256([]byte(s))
		equal |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return equal == 1
}

// readBody reads up to maxBody bytes of an update; whole reports whether that is all of it. A
// longer update is truncated rather than rejected, because Telegram would retry it for a day and
// hold back later updates of the chat.
func readBody(r *http.Request) (body []byte, whole bool, err error) {
	if r.ContentLength > maxUpdateSize {
		return nil, false, adapters.ErrTooLarge
	}
	first := &http.Request{
		Body:          io.NopCloser(io.LimitReader(r.Body, maxBody)),
		ContentLength: min(r.ContentLength, maxBody),
	}
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

// acknowledge writes a response without a body, because Telegram would execute a method call in
// the body.
func acknowledge(w http.ResponseWriter, err error) {
	if err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
