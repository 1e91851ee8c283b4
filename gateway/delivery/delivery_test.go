package delivery

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

const (
	newSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	oldSecret = "whsec_plJ3nmyCDGBKInavdOK15jsl"
)

// shelf is a store with a few events on it.
type shelf struct {
	events   []gateway.Event
	settled  []gateway.Settlement
	disabled []string
}

// turn is long enough for everything.
var turn = gateway.NewTurn(context.Background(), time.Hour)

func (s *shelf) Events(context.Context, gateway.Lease) ([]gateway.Event, error) {
	es := s.events
	s.events = nil
	return es, nil
}

func (s *shelf) Settle(_ context.Context, st gateway.Settlement) error {
	s.settled = append(s.settled, st)
	return nil
}

func (s *shelf) SigningSecrets(context.Context, string, string) ([]string, error) {
	return []string{newSecret, oldSecret}, nil
}

func (s *shelf) DisableAgent(_ context.Context, _, _, url string) error {
	s.disabled = append(s.disabled, url)
	return nil
}

func (s *shelf) results() (rs []gateway.DeliveryResult) {
	for _, st := range s.settled {
		rs = append(rs, st.DeliveryDone...)
	}
	return rs
}

func eventFor(url, id, text string) gateway.Event {
	return gateway.Event{
		Delivery:  gateway.Delivery{ID: id, TenantID: "t", ConversationID: "c", InstanceID: "i", MessageID: "m" + id, Type: "message.received"},
		CreatedAt: time.Now(), Channel: adapters.Telegram, AgentURL: url, Secrets: []string{newSecret, oldSecret},
		Message: adapters.Message{Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Place: adapters.Place{ID: "1"}},
		Sender:  identity.Identity{ID: "id", CustomerID: "cu", RoleOverride: identity.RoleOwner, VerifiedAt: time.Now(), DisplayName: "Steve\r\nX-Evil: 1"},
	}
}

func poster(s *shelf) *Poster {
	return &Poster{Store: s, Client: NewClient(true), Log: slog.New(slog.DiscardHandler), Now: time.Now, Woken: func(...gateway.LaneKind) {}}
}

// verify checks a request by the text of the Standard Webhooks specification, without
// the library that signed it.
func verify(r *http.Request, body []byte, secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
	for _, sig := range strings.Fields(r.Header.Get("webhook-signature")) {
		if hmac.Equal([]byte(sig), []byte(want)) {
			return true
		}
	}
	return false
}

func TestPostIsSignedAndItsRepliesAreKept(t *testing.T) {
	var got map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !verify(r, body, newSecret) || !verify(r, body, oldSecret) {
			t.Error("not signed with both live secrets")
		}
		if verify(r, append(body, ' '), newSecret) || verify(r, body, "whsec_AAAA") {
			t.Error("the check passes anything")
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"replies":[{"text":"one"},{"text":"two"}]}`)
	}))
	defer srv.Close()
	s := &shelf{events: []gateway.Event{eventFor(srv.URL, "1", "hello")}}
	if err := poster(s).Work(t.Context(), gateway.Lease{}, turn); err != nil {
		t.Fatal(err)
	}
	if r := s.results(); len(r) != 1 || r[0].Status != gateway.Delivered || r[0].Answer != 200 {
		t.Fatalf("%+v", r)
	}
	var texts []string
	for _, o := range s.settled[0].Replies {
		texts = append(texts, o.Text)
	}
	if strings.Join(texts, " ") != "one two" {
		t.Errorf("replies %q", texts)
	}
	sender := got["data"].(map[string]any)["sender"].(map[string]any)
	if got["type"] != "message.received" || got["id"] != "msg_1" || sender["role"] != "owner" || sender["verified"] != true {
		t.Errorf("event %v", got)
	}
}

func TestPostKeepsOrderAndRetries(t *testing.T) {
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		posts   int32
		disable bool
		atLeast time.Duration
	}{
		"Down":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 1, false, 0},
		"RetryAfter": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "77"); w.WriteHeader(429) }, 1, false, 77 * time.Second},
		"Gone":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, 1, true, 0},
		"Redirect":   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", 302) }, 1, false, 0},
		"Cut":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var posts atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				c.answer(w, r)
			}))
			defer srv.Close()
			s := &shelf{events: []gateway.Event{eventFor(srv.URL, "1", "a"), eventFor(srv.URL, "2", "b")}}
			before := time.Now()
			if err := poster(s).Work(t.Context(), gateway.Lease{}, turn); err != nil {
				t.Fatal(err)
			}
			if n := posts.Load(); n != c.posts {
				t.Errorf("%d posts; want %d: nothing overtakes a failure", n, c.posts)
			}
			last := s.settled[len(s.settled)-1]
			if !last.Release || last.Next.Before(before.Add(c.atLeast)) || (len(s.disabled) > 0) != c.disable {
				t.Errorf("settled %+v", last)
			}
			if r := s.results(); len(r) != 1 || r[0].Status != gateway.Pending || strings.Contains(r[0].Error, srv.URL) {
				t.Errorf("results %+v", r)
			}
		})
	}
}

func TestPostSurvivesAnyAnswer(t *testing.T) {
	for name, body := range map[string]string{
		"Empty": "", "NotJSON": "<html>", "Null": "null", "Wrong": `{"replies":"x"}`, "Huge": strings.Repeat("x", maxAnswer+10), "Array": "[]",
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
			defer srv.Close()
			s := &shelf{events: []gateway.Event{eventFor(srv.URL, "1", "a")}}
			if err := poster(s).Work(t.Context(), gateway.Lease{}, turn); err != nil {
				t.Fatal(err)
			}
			if r := s.results(); len(r) != 1 || r[0].Status != gateway.Delivered || len(s.settled[0].Replies) != 0 {
				t.Errorf("%+v", s.settled)
			}
		})
	}
}

func TestAnEventIsGivenUpAfterADay(t *testing.T) {
	e := eventFor("http://127.0.0.1:1", "1", "a")
	e.Age, e.Attempts = Life+time.Minute, 1
	s := &shelf{events: []gateway.Event{e}}
	if err := poster(s).Work(t.Context(), gateway.Lease{}, turn); err != nil {
		t.Fatal(err)
	}
	if r := s.results(); len(r) != 1 || r[0].Status != gateway.Dead {
		t.Fatalf("%+v", r)
	}
}

func TestPublicOnly(t *testing.T) {
	var called atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer srv.Close()
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1", "[::]"} {
		s := &shelf{events: []gateway.Event{eventFor("http://"+host+port, "1", "a")}}
		p := poster(s)
		p.Client = NewClient(false)
		if err := p.Work(t.Context(), gateway.Lease{}, turn); err != nil {
			t.Fatal(err)
		}
		if r := s.results(); len(r) != 1 || r[0].Status != gateway.Pending {
			t.Errorf("%s: %+v", host, r)
		}
	}
	if n := called.Load(); n != 0 {
		t.Errorf("%d connections to a private address", n)
	}
}

func TestLoweredRoleSaysWhy(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		days     int
		doubt    identity.Doubt
		role     identity.Role
		reason   string
		verified bool
	}{
		"Fresh":   {1, "", identity.Owner, "", true},
		"Old":     {31, "", identity.Verified, "verification_expired", true},
		"VeryOld": {91, "", identity.Unverified, "verification_expired", false},
		"Doubted": {1, identity.Silent, identity.Unverified, "number_may_have_changed_hands", false},
	} {
		e := eventFor("", "1", "hello")
		e.Freshness = identity.Freshness{OwnerDays: 30, CustomerDays: 90}
		e.Sender.VerifiedAt, e.Sender.Doubt = now.AddDate(0, 0, -c.days), c.doubt
		s := document(e, nil, now).(messageReceived).Data.Sender
		reason := ""
		if s.RoleReason != nil {
			reason = *s.RoleReason
		}
		if s.Role != c.role || reason != c.reason || s.Verified != c.verified || (s.VerifiedAt != nil) != c.verified {
			t.Errorf("%s: %+v %s", name, s, reason)
		}
	}
}

// A faulty transport panics.
type faulty struct{}

func (faulty) RoundTrip(*http.Request) (*http.Response, error) { panic("oops") }

// TestAPanicCostsOneMessageOnly has a fault of ours meet a delivery: it counts as a try,
// after which the event waits as after any other, and in the end is dead. It is logged
// with where it came from, and nothing of it is shown to staff.
func TestAPanicCostsOneMessageOnly(t *testing.T) {
	old := eventFor("http://127.0.0.1:9", "2", "hello")
	old.Age, old.Attempts = Life+time.Second, 1
	s, log := &shelf{events: []gateway.Event{old, eventFor("http://127.0.0.1:9", "1", "hello")}}, &strings.Builder{}
	p := poster(s)
	p.Client, p.Log = &http.Client{Transport: faulty{}}, slog.New(slog.NewTextHandler(log, nil))
	if err := p.Work(t.Context(), gateway.Lease{}, turn); err != nil {
		t.Fatal(err)
	}
	rs := s.results()
	if len(rs) != 2 || rs[0].Status != gateway.Dead || rs[1].Status != gateway.Pending || rs[1].Wait <= 0 || rs[1].Error != "a fault of the gateway" {
		t.Errorf("%+v; want one dead and one to be tried again", rs)
	}
	t.Logf("a day old: %s; a new one: %s, again in %s", rs[0].Status, rs[1].Status, rs[1].Wait.Round(time.Millisecond))
	if last := s.settled[len(s.settled)-1]; !last.Release || last.Next.IsZero() {
		t.Errorf("the lane is not given back until the next try: %+v", last)
	}
	if said := log.String(); !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "delivery_test.go") {
		t.Errorf("the log does not tell what happened, and where: %s", said)
	}
}
