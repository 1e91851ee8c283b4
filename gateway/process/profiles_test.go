package process

import (
	"context"
	"fmt"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// A profileAdapter is an adapter that looks up names.
type profileAdapter struct {
	adapters.Adapter
	err   error
	calls int
}

func (a *profileAdapter) Limits() adapters.Limits {
	return adapters.Limits{MaxText: 1000, Measure: adapters.UTF16Len}
}

func (a *profileAdapter) Profile(context.Context, adapters.Endpoint, string) (adapters.Sender, error) {
	a.calls++
	return adapters.Sender{Name: "Steve", Username: "steve"}, a.err
}

// TestWorker_Profile checks for which senders a name is looked up, and how often.
func TestWorker_Profile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(in *gateway.StoredMessage)
		err    error
		calls  int
		shown  string
	}{
		"unknown sender":  {calls: 1, shown: "Steve"},
		"look-up fails":   {err: &adapters.SendError{Reason: adapters.Throttled, RetryAfter: time.Hour}, calls: 1},
		"named by itself": {change: func(in *gateway.StoredMessage) { in.Message.Sender.Name = "Stefan" }, shown: "Stefan"},
		"known sender": {
			change: func(in *gateway.StoredMessage) { in.Sender = identity.Identity{ID: "i", CustomerID: "c"} },
		},
		"blocked": {change: func(in *gateway.StoredMessage) { in.SenderBlocked = true }},
		"no ID":   {change: func(in *gateway.StoredMessage) { in.Message.Sender.ID = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			a := &profileAdapter{err: c.err}
			w := newWorker(newConversation())
			w.Endpoints = endpointFinder(func(string) error { return nil })
			w.Adapters = map[adapters.Channel]adapters.Adapter{adapters.Slack: a}
			var last decision
			for i := range 3 {
				in := newConversation("hello").pending[0]
				in.ID, in.Channel, in.Sender = fmt.Sprint(i), adapters.Slack, identity.Identity{}
				if c.change != nil {
					c.change(&in)
				}
				d, err := w.decide(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					last = d
				}
			}
			shown := ""
			if last.created != nil {
				shown = last.created.DisplayName
			}
			if a.calls != c.calls || shown != c.shown {
				t.Errorf("%d look-ups, name %q, want %d, %q", a.calls, shown, c.calls, c.shown)
			}
		})
	}
}
