package delivery

import (
	"bytes"
	"compress/gzip"
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
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
	"hydragate/identity"
)

const (
	currentSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	previousSecret = "whsec_plJ3nmyCDGBKInavdOK15jsl"
)

// A fakeStore is a store with a few events.
type fakeStore struct {
	events   []gateway.Event
	commits  []gateway.Commit
	disabled []string
}

// testSlice is long enough for all tests.
var testSlice = queue.NewSlice(context.Background(), time.Hour)

func (s *fakeStore) PendingEvents(context.Context, gateway.Lease) ([]gateway.Event, error) {
	es := s.events
	s.events = nil
	return es, nil
}

func (s *fakeStore) Apply(_ context.Context, st gateway.Commit) error {
	s.commits = append(s.commits, st)
	return nil
}

func (s *fakeStore) SigningSecrets(context.Context, string, string) ([]string, error) {
	return []string{currentSecret, previousSecret}, nil
}

func (s *fakeStore) DisableAgent(_ context.Context, _, _, url string) error {
	s.disabled = append(s.disabled, url)
	return nil
}

func (s *fakeStore) results() (rs []gateway.DeliveryResult) {
	for _, st := range s.commits {
		rs = append(rs, st.DeliveryResults...)
	}
	return rs
}

func newEvent(url, id, text string) gateway.Event {
	return gateway.Event{
		Delivery: gateway.Delivery{
			ID: id, TenantID: "t", ConversationID: "c", InstanceID: "i", MessageID: "m" + id, Type: "message.received",
		},
		CreatedAt: time.Now(), Channel: adapters.Telegram, AgentURL: url, Secrets: []string{currentSecret, previousSecret},
		Message: adapters.Message{
			Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"},
		},
		Sender: identity.Identity{
			ID: "id", CustomerID: "cu", RoleOverride: identity.RoleOwner, VerifiedAt: time.Now(),
			DisplayName: "Steve\r\nX-Evil: 1",
		},
	}
}

func newDeliverer(s *fakeStore) *Deliverer {
	return &Deliverer{
		Store: s, Client: NewClient(true), Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Wake: func(...gateway.QueueKind) {},
	}
}

// verifySignature verifies a request as the Standard Webhooks specification describes it, without
// the library that signed it.
func verifySignature(r *http.Request, body []byte, secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
	return slices.Contains(strings.Fields(r.Header.Get("webhook-signature")), want)
}

// A panicTransport panics.
type panicTransport struct{}

func (panicTransport) RoundTrip(*http.Request) (*http.Response, error) { panic("oops") }

func TestDeliverer_SignsEvents(t *testing.T) {
	var got map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !verifySignature(r, body, currentSecret) || !verifySignature(r, body, previousSecret) {
			t.Error("not signed with both live secrets")
		}
		if verifySignature(r, append(body, ' '), currentSecret) || verifySignature(r, body, "whsec_AAAA") {
			t.Error("verifySignature accepts a forged signature")
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"replies":[{"text":"one"},{"text":"two"}]}`)
	}))
	defer srv.Close()
	s := &fakeStore{events: []gateway.Event{newEvent(srv.URL, "1", "hello")}}
	if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
		t.Fatal(err)
	}
	if r := s.results(); len(r) != 1 || r[0].Status != gateway.Delivered || r[0].HTTPStatus != 200 {
		t.Fatalf("%+v", r)
	}
	var texts []string
	for _, o := range s.commits[0].Replies {
		texts = append(texts, o.Text)
	}
	if strings.Join(texts, " ") != "one two" {
		t.Errorf("replies = %q", texts)
	}
	sender := got["data"].(map[string]any)["sender"].(map[string]any)
	if got["type"] != "message.received" || got["id"] != "msg_1" || sender["role"] != "owner" ||
		sender["verified"] != true {
		t.Errorf("event = %v", got)
	}
}

// TestDeliverer_Notices checks that a notice that the application rejects does not hold up the events after
// it, that a notice that has failed waits for other events, and that a message still holds up notices.
func TestDeliverer_Notices(t *testing.T) {
	notice := func(id string, attempts int, delay time.Duration) gateway.Event {
		e := newEvent("", id, "")
		e.Type, e.MessageID, e.Attempts, e.Delay = gateway.IdentityOptedOut, "", attempts, delay
		return e
	}
	message := func(id string) gateway.Event { return newEvent("", id, id) }
	for _, tt := range []struct {
		name   string
		events []gateway.Event
		fails  string // type of the events that the application rejects
		posted string // IDs, in order
		next   bool   // the queue is due again at a time
	}{
		{"accepted", []gateway.Event{message("1"), notice("2", 0, 0), message("3")}, "", "1 2 3", false},
		{"rejected", []gateway.Event{notice("1", 0, 0), message("2"), message("3")}, "identity.opted_out", "1 2 3", true},
		{"rejected before", []gateway.Event{notice("1", 2, -1), message("2")}, "", "2 1", false},
		{"rejected last", []gateway.Event{message("1"), notice("2", 0, 0)}, "identity.opted_out", "1 2", true},
		{"not due", []gateway.Event{notice("1", 1, time.Hour), message("2")}, "", "2", true},
		{"only not due", []gateway.Event{notice("1", 1, time.Hour)}, "", "", true},
		{"behind a message", []gateway.Event{message("1"), notice("2", 0, 0)}, "message.received", "1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var posted []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var e struct{ ID, Type string }
				if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
					t.Error(err)
				}
				if posted = append(posted, strings.TrimPrefix(e.ID, "msg_")); e.Type == tt.fails {
					w.WriteHeader(http.StatusBadRequest)
				}
			}))
			defer srv.Close()
			s := &queueStore{}
			for _, e := range tt.events {
				e.AgentURL = srv.URL
				s.events = append(s.events, e)
			}
			d := newDeliverer(&s.fakeStore)
			d.Store = s
			if err := d.Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
				t.Fatal(err)
			}
			last := s.commits[len(s.commits)-1]
			if got := strings.Join(posted, " "); got != tt.posted || !last.Release || last.Next.IsZero() == tt.next {
				t.Errorf("posted %q, want %q; last commit = %+v", got, tt.posted, last)
			}
		})
	}
}

// A queueStore is a fakeStore that returns events until they are delivered.
type queueStore struct{ fakeStore }

func (s *queueStore) PendingEvents(context.Context, gateway.Lease) ([]gateway.Event, error) {
	return slices.Clone(s.events), nil
}

func (s *queueStore) Apply(_ context.Context, st gateway.Commit) error {
	s.commits = append(s.commits, st)
	for _, r := range st.DeliveryResults {
		i := slices.IndexFunc(s.events, func(e gateway.Event) bool { return e.ID == r.ID })
		if r.Status != gateway.Pending {
			s.events = slices.Delete(s.events, i, i+1)
			continue
		}
		s.events[i].Attempts, s.events[i].Delay = s.events[i].Attempts+1, r.Delay
	}
	return nil
}

func TestDeliverer_InvalidResponse(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "not JSON": "<html>", "null": "null", "wrong type": `{"replies":"x"}`, "array": "[]",
		"too long": strings.Repeat("x", maxResponse+10),
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(
				http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }),
			)
			defer srv.Close()
			s := &fakeStore{events: []gateway.Event{newEvent(srv.URL, "1", "a")}}
			if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
				t.Fatal(err)
			}
			if r := s.results(); len(r) != 1 || r[0].Status != gateway.Delivered || len(s.commits[0].Replies) != 0 {
				t.Errorf("%+v", s.commits)
			}
		})
	}
}

// TestDeliverer_PartialResponse checks that the replies that are understood are sent, and that the rest is
// logged with instance and cause and stored with the delivery.
func TestDeliverer_PartialResponse(t *testing.T) {
	gzipped := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		return b.String()
	}
	const one = `{"replies":[{"text":"one"}]}`
	for _, tt := range []struct {
		name, body, replies, problem string
	}{
		{"plain", one, "[one]", ""},
		{"no reply", `{}`, "[]", ""},
		{"null", `{"replies":null}`, "[]", ""},
		{"other fields", `{"replies":[{"text":"one","lang":"en"}],"ok":true}`, "[one]", ""},
		{"gzip", gzipped(one), "[one]", ""},
		{"damaged gzip", gzipped(one)[:20], "[]", "cannot decompress the response: unexpected EOF"},
		{
			"gzip of too much", gzipped(strings.Repeat(" ", maxResponse+10)), "[]",
			"cannot decompress the response: longer than the limit",
		},
		{"too long", strings.Repeat(" ", maxResponse) + one, "[]", "response is longer than 262144 bytes"},
		{"byte order mark", "\ufeff" + one, "[one]", ""},
		{"byte order mark in gzip", gzipped("\ufeff" + one), "[one]", ""},
		{
			"bad entries", `{"replies":[{"text":"one"},"two",{"text":3},{"body":"four"},null,{"text":"five"}]}`, "[one five]",
			"replies[1] is not an object with a text; replies[2] is not an object with a text; replies[3] has no text; " +
				"replies[4] has no text",
		},
		{"another field", `{"reply":{"text":"one"}}`, "[]", `no field replies, but "reply"`},
		{"an object", `{"replies":{"text":"one"}}`, "[]", "replies is not a list"},
		{"text", "ok", "[]", "response is not a JSON object: invalid character 'o' looking for beginning of value"},
		{
			"too many", `{"replies":[` + strings.Repeat(`{"text":"a"},`, maxReplies) + `{"text":"b"}]}`,
			"[" + strings.TrimSpace(strings.Repeat("a ", maxReplies)) + "]", "more than 20 replies, the rest is dropped",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("Accept-Encoding = %q, want identity", got)
				}
				_, _ = io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			s := &fakeStore{events: []gateway.Event{newEvent(srv.URL, "1", "a")}}
			p := newDeliverer(s)
			reg := prometheus.NewRegistry()
			p.Metrics = NewMetrics(reg)
			var log strings.Builder
			p.Log = slog.New(slog.NewJSONHandler(&log, nil))
			if err := p.Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
				t.Fatal(err)
			}
			texts := []string{}
			for _, o := range s.commits[0].Replies {
				texts = append(texts, o.Text)
			}
			r := s.results()[0]
			if fmt.Sprint(texts) != tt.replies || r.Status != gateway.Delivered || r.Error != tt.problem {
				t.Errorf("replies = %q, result %+v, want %s and %q", texts, r, tt.replies, tt.problem)
			}
			logged := strings.Contains(log.String(), `not understood","delivery":"1","instance":"i","error":"`)
			if logged != (tt.problem != "") {
				t.Errorf("logged = %v, want %v: %s", logged, tt.problem != "", log.String())
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "hydragate_answer_errors_total" &&
					(n == 1) != (tt.problem != "") {
					t.Errorf("%s = %v, want it to count %q", f.GetName(), n, tt.problem)
				}
			}
		})
	}
}

func TestDeliverer_MaxEventAge(t *testing.T) {
	e := newEvent("http://127.0.0.1:1", "1", "a")
	e.Age, e.Attempts = MaxEventAge+time.Minute, 1
	s := &fakeStore{events: []gateway.Event{e}}
	if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
		t.Fatal(err)
	}
	if r := s.results(); len(r) != 1 || r[0].Status != gateway.Dead {
		t.Fatalf("%+v", r)
	}
}

func TestDeliverer_PrivateAddress(t *testing.T) {
	var called atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer srv.Close()
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1", "[::]",
	} {
		s := &fakeStore{events: []gateway.Event{newEvent("http://"+host+port, "1", "a")}}
		p := newDeliverer(s)
		p.Client = NewClient(false)
		if err := p.Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
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

// TestDeliverer_Panic checks that a panic counts as an attempt, after which the event waits like
// any other, and that the log has the stack, but the stored error does not.
func TestDeliverer_Panic(t *testing.T) {
	old := newEvent("http://127.0.0.1:9", "2", "hello")
	old.Age, old.Attempts = MaxEventAge+time.Second, 1
	s, log := &fakeStore{events: []gateway.Event{old, newEvent("http://127.0.0.1:9", "1", "hello")}}, &strings.Builder{}
	p := newDeliverer(s)
	p.Client, p.Log = &http.Client{Transport: panicTransport{}}, slog.New(slog.NewTextHandler(log, nil))
	if err := p.Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
		t.Fatal(err)
	}
	rs := s.results()
	if len(rs) != 2 || rs[0].Status != gateway.Dead || rs[1].Status != gateway.Pending || rs[1].Delay <= 0 ||
		rs[1].Error != "a fault of the gateway" {
		t.Errorf("results = %+v, want one dead and one pending", rs)
	}
	t.Logf("a day old: %s; a new one: %s, again in %s", rs[0].Status, rs[1].Status, rs[1].Delay.Round(time.Millisecond))
	if last := s.commits[len(s.commits)-1]; !last.Release || last.Next.IsZero() {
		t.Errorf("queue not released until the next attempt: %+v", last)
	}
	if entry := log.String(); !strings.Contains(entry, "level=ERROR") || !strings.Contains(entry, "delivery_test.go") {
		t.Errorf("log without error and stack: %s", entry)
	}
}
