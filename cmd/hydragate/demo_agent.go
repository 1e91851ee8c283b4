package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A sampleAgent is the program that answers, as simple as one can be: it checks who
// signed, looks at the role of the sender, and replies in the same breath. It keeps
// what it saw.
type sampleAgent struct {
	mu      sync.Mutex
	hook    *standardwebhooks.Webhook // nil until trust
	events  []agentEvent
	forged  int
	changed chan struct{} // closed at the next event
}

// An agentEvent is what of an event the sample agent looks at.
type agentEvent struct {
	ID   string         `json:"id"`
	Type string         `json:"type"`
	Data agentEventData `json:"data"`
}

type agentEventData struct {
	Channel  string      `json:"channel"`
	Text     string      `json:"text"`
	Sender   agentSender `json:"sender"`
	Identity agentSender `json:"identity"`
}

type agentSender struct {
	IdentityID  string `json:"identity_id"`
	ExternalID  string `json:"external_id"`
	DisplayName string `json:"display_name"`
	Role        string `json:"role"`
}

func newSampleAgent() *sampleAgent { return &sampleAgent{changed: make(chan struct{})} }

// trust makes the agent believe what is signed with an instance's webhook secret.
func (a *sampleAgent) trust(secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("read the instance's webhook secret: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = hook
	return nil
}

func (a *sampleAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var e agentEvent
	switch {
	case err != nil || !a.signed(body, r.Header):
		w.WriteHeader(http.StatusUnauthorized)
		return
	case json.Unmarshal(body, &e) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.keep(e)
	type reply struct {
		Text string `json:"text"`
	}
	answer := struct {
		Replies []reply `json:"replies"`
	}{Replies: []reply{}}
	if e.Type == "message.received" {
		answer.Replies = append(answer.Replies, reply{answerTo(e.Data.Sender)})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *sampleAgent) signed(body []byte, h http.Header) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hook != nil && a.hook.Verify(body, h) == nil {
		return true
	}
	a.forged++
	return false
}

// answerTo is all that the agent has to say. What it tells depends on the role and
// never on what somebody calls himself.
func answerTo(s agentSender) string {
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

// keep notes an event; one that is posted again is still the same.
func (a *sampleAgent) keep(e agentEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.ContainsFunc(a.events, func(had agentEvent) bool { return had.ID == e.ID }) {
		return
	}
	a.events = append(a.events, e)
	close(a.changed)
	a.changed = make(chan struct{})
}

// messages gives what a person wrote, as far as it reached the agent.
func (a *sampleAgent) messages(channel, externalID string) []agentEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	var es []agentEvent
	for _, e := range a.events {
		if e.Type == "message.received" && e.Data.Channel == channel && e.Data.Sender.ExternalID == externalID {
			es = append(es, e)
		}
	}
	return es
}

// said reports whether any message that reached the agent holds one of words.
func (a *sampleAgent) said(words ...string) bool {
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

// forgeries counts what came without a good signature.
func (a *sampleAgent) forgeries() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.forged
}

// verified waits until the agent is told that an identity is verified, and gives
// the role it has now.
func (a *sampleAgent) verified(ctx context.Context, identityID string) (role string, err error) {
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
