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

// A sampleApp is the program that answers, as simple as one can be: it checks who
// signed, looks at the role of the sender, and replies in the same breath. It keeps
// what it saw.
type sampleApp struct {
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook // nil until trust
	events   []AppEvent
	rejected int
	changed  chan struct{} // closed at the next event
}

// An AppEvent is what of an event the sample agent looks at.
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

func NewSampleApp() *sampleApp { return &sampleApp{changed: make(chan struct{})} }

// setSecret makes the agent believe what is signed with an instance's webhook secret.
func (a *sampleApp) setSecret(secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("read the instance's webhook secret: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.verifier = hook
	return nil
}

func (a *sampleApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	answer := struct {
		Replies []reply `json:"replies"`
	}{Replies: []reply{}}
	if e.Type == "message.received" {
		answer.Replies = append(answer.Replies, reply{replyText(e.Data.Sender)})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *sampleApp) verify(body []byte, h http.Header) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.verifier != nil && a.verifier.Verify(body, h) == nil {
		return true
	}
	a.rejected++
	return false
}

// replyText is all that the agent has to say. What it tells depends on the role and
// never on what somebody calls himself.
func replyText(s appSender) string {
	hello := "Hello!"
	if s.DisplayName != "" {
		hello = "Hello " + s.DisplayName + "!"
	}
	switch s.Role {
	case "owner":
		return hello + " The balance of your account is 1,250.00 EUR."
	case "customer":
		return hello + " I know you, but I may tell the balance to the account's owner alone."
	case "unverified":
		return hello + " This chat is not verified yet. Please send me the code that you were given, like this: /claim WDJ-BMJ"
	}
	return hello + " I do not know you yet, so I cannot talk about any account. Please call us."
}

// record notes an event; one that is posted again is still the same.
func (a *sampleApp) record(e AppEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.ContainsFunc(a.events, func(had AppEvent) bool { return had.ID == e.ID }) {
		return
	}
	a.events = append(a.events, e)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Messages gives what a person wrote, as far as it reached the agent.
func (a *sampleApp) Messages(channel, externalID string) []AppEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	var es []AppEvent
	for _, e := range a.events {
		if e.Type == "message.received" && e.Data.Channel == channel && e.Data.Sender.ExternalID == externalID {
			es = append(es, e)
		}
	}
	return es
}

// receivedAny reports whether any message that reached the agent holds one of words.
func (a *sampleApp) receivedAny(words ...string) bool {
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

// rejectedCount counts what came without a good signature.
func (a *sampleApp) rejectedCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rejected
}

// awaitVerified waits until the agent is told that an identity is verified, and gives
// the role it has now.
func (a *sampleApp) awaitVerified(ctx context.Context, identityID string) (role string, err error) {
	for {
		a.mu.Lock()
		changed := a.changed
		for _, e := range a.events {
			if e.Type == "identity.verified" && e.Data.Identity.IdentityID == identityID {
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
