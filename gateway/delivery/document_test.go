package delivery

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

func TestDocument_RoleReason(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		days     int
		expired  identity.ExpiryReason
		role     identity.Role
		reason   string
		verified bool
	}{
		"fresh":    {1, "", identity.Owner, "", true},
		"old":      {31, "", identity.Verified, "verification_expired", true},
		"very old": {91, "", identity.Unverified, "verification_expired", false},
		"inactive": {1, identity.ExpiredByInactivity, identity.Unverified, "number_may_have_changed_hands", false},
	} {
		e := newEvent("", "1", "hello")
		e.VerificationPolicy = identity.VerificationPolicy{OwnerDays: 30, CustomerDays: 90}
		e.Customer = identity.Customer{Email: "steve@example.com", FirstName: "Steve", LastName: "Hill"}
		e.FKID = "CRM-4711"
		e.Sender.VerifiedAt, e.Sender.ExpiryReason = now.AddDate(0, 0, -c.days), c.expired
		s := document(e, nil, now).(messageReceived).Data.Sender
		reason := ""
		if s.RoleReason != nil {
			reason = *s.RoleReason
		}
		for field, value := range map[string]*string{
			"customer_email": s.CustomerEmail, "customer_name": s.CustomerName, "fk_id": s.FKID,
		} {
			if (value != nil) != c.verified {
				t.Errorf("%s: %s = %v, want it only of a verified sender", name, field, value)
			}
		}
		if s.CustomerID == nil || c.verified && *s.CustomerName != "Steve Hill" {
			t.Errorf("%s: sender = %+v, want the customer's ID and name", name, s)
		}
		if s.Role != c.role || reason != c.reason || s.Verified != c.verified || (s.VerifiedAt != nil) != c.verified {
			t.Errorf("%s: %+v %s", name, s, reason)
		}
	}
}

// TestDocument_Content checks that content has the fields of its kind, and no others.
func TestDocument_Content(t *testing.T) {
	e := newEvent("", "1", "")
	for want, c := range map[string]adapters.Content{
		`{"kind":"location","latitude":0,"longitude":13.4}`: {
			Kind: adapters.Location, Longitude: 13.4,
		},
		`{"kind":"location","latitude":52.5,"longitude":0,"title":"Shop","address":"Berlin"}`: {
			Kind: adapters.Location, Latitude: 52.5, Title: "Shop", Address: "Berlin",
		},
		`{"kind":"contact","phone_number":"+1415","name":"Steve","own":false}`: {
			Kind: adapters.Contact, PhoneNumber: "+1415", Name: "Steve",
		},
		`{"kind":"form","data":{"day":"1"}}`: {Kind: adapters.Form, Data: map[string]any{"day": "1"}},
		`{"kind":"other","name":"passport"}`: {Kind: adapters.Other, Name: "passport"},
	} {
		e.Message.Content = []adapters.Content{c}
		got, err := json.Marshal(document(e, nil, time.Now()).(messageReceived).Data.Content)
		if err != nil || string(got) != "["+want+"]" {
			t.Errorf("content = %s, %v, want [%s]", got, err, want)
		}
	}
}

// TestDocument_ThreadID checks on which channels events contain the thread of a chat: the number of a
// pool is none.
func TestDocument_ThreadID(t *testing.T) {
	for _, channel := range adapters.Channels() {
		e := newEvent("", "1", "hello")
		e.Channel, e.Message.Chat.Thread = channel, "77"
		got := document(e, nil, time.Now()).(messageReceived).Data.ThreadID
		if want := channel == adapters.Telegram || channel == adapters.Slack; (got != nil) != want {
			t.Errorf("%s: thread_id = %v, want it: %v", channel, got, want)
		}
	}
}

// TestDocument_Authorship checks that events name the author of every message, also of those that
// earlier versions stored.
func TestDocument_Authorship(t *testing.T) {
	for reason, want := range map[adapters.UnprovenReason]string{
		"": "false sender null", "edited": "false sender null", "caption": "false sender null",
		"external": "false sender null", "forwarded": "true other null", "via_bot": `false other "bot"`,
		"via_app": `false other "app"`, "scheduled": `false other "automatic"`, "channel": `false other "automatic"`,
		"log": "false unknown null", "anonymous": "false unknown null", "short_code": "false unknown null",
		"alphanumeric": "false unknown null",
	} {
		e := newEvent("", "1", "hello")
		e.Message.UnprovenReason = reason
		body, err := json.Marshal(document(e, nil, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		var event struct {
			Data struct {
				Forwarded bool            `json:"forwarded"`
				WrittenBy string          `json:"written_by"`
				Via       json.RawMessage `json:"via"`
			} `json:"data"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			t.Fatal(err)
		}
		d := event.Data
		if got := fmt.Sprintf("%v %s %s", d.Forwarded, d.WrittenBy, d.Via); got != want {
			t.Errorf("%q: forwarded, written_by, via = %s, want %s", reason, got, want)
		}
	}
	e := newEvent("", "1", "hello")
	e.Message.Sender.ID = ""
	if got := document(e, nil, time.Now()).(messageReceived).Data.WrittenBy; got != adapters.AuthorUnknown {
		t.Errorf("message without a sender is written by %q, want %q", got, adapters.AuthorUnknown)
	}
}
