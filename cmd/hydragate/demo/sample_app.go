package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A SampleApp is a minimal application. It verifies the signature of each event, and replies
// depending on the role of the sender. It records the events for the demo.
type SampleApp struct {
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook // nil until setSecret
	events   []AppEvent
	rejected int
	changed  chan struct{} // closed when an event is recorded
}

// An AppEvent contains the fields of an event that the sample application uses.
type AppEvent struct {
	ID   string       `json:"id"`
	Type string       `json:"type"`
	Data appEventData `json:"data"`
}

type appEventData struct {
	Channel  string    `json:"channel"`
	Text     string    `json:"text"`
	Sender   appSender `json:"sender"`
	Identity appSender `json:"identity"`
}

type appSender struct {
	IdentityID  string `json:"identity_id"`
	ExternalID  string `json:"external_id"`
	DisplayName string `json:"display_name"`
	Role        string `json:"role"`
}

// The types of events that the sample application handles.
const (
	eventReceived = "message.received"
	eventVerified = "identity.verified"
)

// NewSampleApp returns an application that rejects every event until setSecret is called.
func NewSampleApp() *SampleApp { return &SampleApp{changed: make(chan struct{})} }

// setSecret makes the application accept events that are signed with secret.
func (a *SampleApp) setSecret(secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("parse the webhook secret of the instance: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.verifier = hook
	return nil
}

// ServeHTTP records an event and answers with a reply.
func (a *SampleApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var e AppEvent
	switch {
	case err != nil || !a.verify(body, r.Header):
		w.WriteHeader(http.StatusUnauthorized)
		return
	case json.Unmarshal(body, &e) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.record(e)
	type reply struct {
		Text string `json:"text"`
	}
	response := struct {
		Replies []reply `json:"replies"`
	}{Replies: []reply{}}
	if e.Type == eventReceived {
		response.Replies = append(response.Replies, reply{replyText(e.Data.Sender)})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(response) //nolint:errchkjson // the gateway retries
}

func (a *SampleApp) verify(body []byte, h http.Header) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.verifier != nil && a.verifier.Verify(body, h) == nil {
		return true
	}
	a.rejected++
	return false
}

// replyText returns the reply to a message. It depends on the role of the sender, never on the
// name, which people choose themselves.
func replyText(s appSender) string {
	hello := "Hello!"
	if s.DisplayName != "" {
		hello = "Hello " + s.DisplayName + "!"
	}
	switch s.Role {
	case "owner":
		return hello + " The balance of your account is 1,250.00 EUR."
	case "customer":
		return hello + " I know you, but I can only tell the balance to the owner of the account."
	case "unverified":
		return hello + " This chat is not verified yet. " +
			"Please send me the code that you were given, like this: /claim WDJ-BMJ"
	}
	return hello + " I do not know you yet, so I cannot talk about any account. Please call us."
}

// record records an event, unless it was delivered before.
func (a *SampleApp) record(e AppEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.ContainsFunc(a.events, func(r AppEvent) bool { return r.ID == e.ID }) {
		return
	}
	a.events = append(a.events, e)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Messages returns the messages of a sender that were delivered to the application.
func (a *SampleApp) Messages(channel, externalID string) []AppEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	var messages []AppEvent
	for _, e := range a.events {
		if e.Type == eventReceived && e.Data.Channel == channel && e.Data.Sender.ExternalID == externalID {
			messages = append(messages, e)
		}
	}
	return messages
}

// receivedAny reports whether a message that was delivered contains one of words.
func (a *SampleApp) receivedAny(words ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		for _, w := range words {
			if strings.Contains(strings.ToUpper(e.Data.Text), strings.ToUpper(w)) {
				return true
			}
		}
	}
	return false
}

// rejectedCount returns the number of requests without a valid signature.
func (a *SampleApp) rejectedCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rejected
}

// awaitVerified waits until the event identity.verified of an identity has been delivered and
// returns the role in it.
func (a *SampleApp) awaitVerified(ctx context.Context, identityID string) (role string, err error) {
	for {
		a.mu.Lock()
		changed := a.changed
		for _, e := range a.events {
			if e.Type == eventVerified && e.Data.Identity.IdentityID == identityID {
				a.mu.Unlock()
				return e.Data.Identity.Role, nil
			}
		}
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// waitEvents waits until more than n events are recorded and returns the events after the first n.
// It returns none if ctx ends first.
func (a *SampleApp) waitEvents(ctx context.Context, n int) []AppEvent {
	for {
		a.mu.Lock()
		events, changed := slices.Clone(a.events), a.changed
		a.mu.Unlock()
		if len(events) > n {
			return events[n:]
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
