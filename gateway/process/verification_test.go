package process

import (
	"fmt"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// TestWorker_ReclaimNotice checks when a sender is asked to claim the account again, and whether the
// message is delivered to the application.
func TestWorker_ReclaimNotice(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for _, tt := range []struct {
		name      string
		change    func(*gateway.StoredMessage)
		notified  bool
		expired   identity.ExpiryReason // stored
		forwarded bool
	}{
		{"verified", func(*gateway.StoredMessage) {}, false, "", true},
		{"verification expired", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt = ago(31)
		}, true, "", true},
		{"notified before", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt, in.ReclaimNotified = ago(31), true
		}, false, "", true},
		{"in a group", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt, in.Message.Chat.Group = ago(31), true
		}, false, "", true},
		{"inactive", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt, in.Sender.LastSeenAt = ago(20), ago(15)
		}, true, identity.ExpiredByInactivity, true},
		{"account terminated", func(in *gateway.StoredMessage) {
			in.Sender.ExpiryReason = identity.ExpiredByTermination
		}, true, "", true},
		{"opts out", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt, in.Message.Kind = ago(31), adapters.OptOut
		}, false, "", false},
		{"whoami", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt = ago(31)
			in.Message.Command = &adapters.Command{Name: "whoami"}
		}, true, "", false},
		{"unknown sender", func(in *gateway.StoredMessage) {
			in.Sender.CustomerID, in.Sender.VerifiedAt = "", time.Time{}
		}, false, "", true},
		{"never verified", func(in *gateway.StoredMessage) {
			in.Sender.VerifiedAt = time.Time{}
		}, false, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation("hello")
			in := &s.pending[0]
			in.Channel, in.ReceivedAt = adapters.SMS, now
			in.Sender.VerifiedAt, in.Sender.LastSeenAt, in.Sender.RoleOverride = ago(1), now, identity.RoleOwner
			in.Instance.VerificationPolicy = identity.VerificationPolicy{OwnerDays: 30, InactivityDays: 14}
			tt.change(in)
			w := newWorker(s)
			w.Now = func() time.Time { return now }
			run(t, w)

			c := s.commits[0]
			notified := len(c.Replies) == 1 && c.Replies[0].Text == textReclaim
			if notified != tt.notified || len(c.Deliveries) == 1 != tt.forwarded {
				t.Errorf("notified = %v, deliveries = %d, want %v, forwarded: %v",
					notified, len(c.Deliveries), tt.notified, tt.forwarded)
			}
			var u gateway.IdentityUpdate
			if len(c.IdentityUpdates) > 0 {
				u = c.IdentityUpdates[0]
			}
			if u.ExpiryReason != tt.expired || tt.forwarded && u.ReclaimNotified != tt.notified {
				t.Errorf("identity update = %+v, want ExpiryReason %q, ReclaimNotified %v", u, tt.expired, tt.notified)
			}
		})
	}
}

// TestWorker_Keywords checks that keywords of carriers are ordinary messages for everyone but those who
// opted out.
func TestWorker_Keywords(t *testing.T) {
	for _, tt := range []struct {
		name      string
		kind      adapters.Kind
		optedOut  bool
		forwarded bool
		want      *bool // OptedOut of the identity
	}{
		{"YES", adapters.OptIn, false, true, nil},
		{"HELP", adapters.Help, false, true, nil},
		{"START", adapters.OptIn, true, false, new(bool)},
		{"INFO", adapters.Help, true, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newConversation(tt.name)
			in := &s.pending[0]
			in.Channel, in.Message.Kind = adapters.SMS, tt.kind
			if tt.optedOut {
				in.Sender.OptedOutAt = time.Now()
			}
			run(t, newWorker(s))
			c := s.commits[0]
			if got := len(c.Deliveries) == 1; got != tt.forwarded {
				t.Errorf("forwarded = %v, want %v", got, tt.forwarded)
			}
			var got *bool
			if len(c.IdentityUpdates) > 0 {
				got = c.IdentityUpdates[0].OptedOut
			}
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("OptedOut = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestWorker_SubscriptionTwice checks that a keyword that follows an opt-out immediately is processed as that
// of a person who opted out: a decision after it must be made with its result.
func TestWorker_SubscriptionTwice(t *testing.T) {
	s := newConversation("STOP", "START")
	for i, kind := range []adapters.Kind{adapters.OptOut, adapters.OptIn} {
		s.pending[i].Channel, s.pending[i].Message.Kind = adapters.SMS, kind
	}
	run(t, newWorker(s))
	if len(s.commits[0].Messages) != 1 {
		t.Errorf("first commit = %+v, want the opt-out alone", s.commits[0])
	}
}

// TestWorker_EventTypes checks that an application receives only the types of events of its instance.
func TestWorker_EventTypes(t *testing.T) {
	for name, c := range map[string]struct {
		events *[]gateway.EventType
		want   string
	}{
		"default":        {nil, "forwarded [message.received]"},
		"subscribed":     {&[]gateway.EventType{gateway.MessageReceived}, "forwarded [message.received]"},
		"not subscribed": {&[]gateway.EventType{gateway.IdentityOptedOut}, "not_subscribed []"},
		"none":           {&[]gateway.EventType{}, "not_subscribed []"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newConversation("hello")
			s.pending[0].Instance.Events = c.events
			run(t, newWorker(s))
			types := []gateway.EventType{}
			for _, d := range s.commits[0].Deliveries {
				types = append(types, d.Type)
			}
			if got := fmt.Sprint(s.commits[0].Messages[0].Outcome, " ", types); got != c.want {
				t.Errorf("outcome and events = %s, want %s", got, c.want)
			}
		})
	}
}
