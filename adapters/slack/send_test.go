package slack_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

// formRecorder records the form of the last call of a method.
type formRecorder struct {
	http.Handler
	method string
	form   url.Values
}

func (l *formRecorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, l.method) {
		body, _ := io.ReadAll(r.Body)
		l.form, _ = url.ParseQuery(string(body))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	l.Handler.ServeHTTP(w, r)
}

func TestSend_PlainText(t *testing.T) {
	s, _ := newSimulator(t)
	wire := &formRecorder{Handler: s, method: "chat.postMessage"}
	server := httptest.NewServer(wire)
	t.Cleanup(server.Close)
	s.AddRoom("C1", false)
	a := &slack.Adapter{APIURL: server.URL + "/api/"}
	_, err := a.Send(
		t.Context(),
		endpoint(),
		adapters.Reply{ID: "r1", Chat: adapters.Chat{ID: "C1", Group: true, Thread: "1.1"}, Text: "<!channel> & <@U1>"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"channel": "C1", "text": "&lt;!channel&gt; &amp; &lt;@U1&gt;", "mrkdwn": "false", "thread_ts": "1.1",
		"unfurl_links": "false", "unfurl_media": "false",
		"metadata": `{"event_type":"hydragate_reply","event_payload":{"id":"r1"}}`,
	} {
		if got := wire.form.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
}

// TestSend_LookupWindow checks that a reply that may have been sent is looked for among those of a day.
func TestSend_LookupWindow(t *testing.T) {
	s, _ := newSimulator(t)
	wire := &formRecorder{Handler: s, method: "conversations.history"}
	server := httptest.NewServer(wire)
	t.Cleanup(server.Close)
	s.AddRoom("C1", false)
	a := &slack.Adapter{APIURL: server.URL + "/api/", Now: fixedTime}
	reply := adapters.Reply{ID: "r1", Chat: adapters.Chat{ID: "C1", Group: true}, Text: "hi", MaybeSent: true}
	if _, err := a.Send(t.Context(), endpoint(), reply); err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatInt(fixedTime().Add(-24*time.Hour).Unix(), 10); wire.form.Get("oldest") != want {
		t.Errorf("looked for messages since %s, want %s", wire.form.Get("oldest"), want)
	}
}

func TestSend_UserWithoutChat(t *testing.T) {
	s, a := newSimulator(t)
	if _, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", To: steve.Chat(), Text: "hello"}); err != nil {
		t.Fatal(err)
	}
	if got := s.Replies(steve.Chat()); len(got) != 1 || got[0].Text != "hello" {
		t.Errorf("Replies = %v, want hello", got)
	}
}

func TestSend_OtherWorkspace(t *testing.T) {
	s, a := newSimulator(t)
	_, err := a.Send(
		t.Context(),
		endpoint(),
		adapters.Reply{ID: "r1", To: "T0EXTERN1:" + steve.ID, Chat: adapters.Chat{ID: steve.ID}, Text: "hello"},
	)
	var se *adapters.SendError
	if !errors.As(err, &se) || se.Reason != adapters.Refused || len(s.Replies("")) != 0 {
		t.Errorf("Send to another workspace = %v, replies %v, want Refused and none", err, s.Replies(""))
	}
}

func TestSend_ResponseURL(t *testing.T) {
	for name, c := range map[string]struct {
		arm     func(s *simulator.Slack)
		address string // instead of the one of the command
		private bool
		reason  adapters.Reason
		wait    time.Duration
	}{
		"taken":          {private: true},
		"expired":        {arm: armResponseURL(404, "expired_url", nil)},
		"used":           {arm: armResponseURL(404, "used_url", nil)},
		"refused in 200": {arm: armResponseURL(200, `{"ok":false,"error":"used_url"}`, nil)},
		"redirected":     {arm: armResponseURL(302, "", http.Header{"Location": {"http://127.0.0.1:1/"}})},
		"throttled": {
			arm: armResponseURL(429, "", http.Header{"Retry-After": {"7"}}), reason: adapters.Throttled, wait: 7 * time.Second,
		},
		"unavailable": {arm: armResponseURL(503, "", nil), reason: adapters.Unreachable},
		"connection cut": {
			arm: func(s *simulator.Slack) { s.Arm("response_url", simulator.Fault{Cut: true}) }, private: true,
			reason: adapters.Ambiguous,
		},
		"foreign":  {address: "https://hooks.slack.com.evil.example/x"},
		"metadata": {address: "http://169.254.169.254/latest/meta-data"},
		"slack":    {address: "https://hooks.slack.com/commands/x"}, // not the configured server
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSimulator(t)
			place := commandChat(t, s, a)
			if c.address != "" {
				place.ReplyToken = c.address
			}
			if c.arm != nil {
				c.arm(s)
			}
			id, err := a.Send(
				t.Context(),
				endpoint(),
				adapters.Reply{ID: "r1", To: steve.Chat(), Chat: place, Text: "<linked> & done"},
			)
			var se *adapters.SendError
			if errors.As(err, &se) &&
				(se.Reason != c.reason || se.RetryAfter != c.wait || strings.Contains(err.Error(), "://")) ||
				(err == nil) != (c.reason == "") {
				t.Fatalf("%v, want %q after %v", err, c.reason, c.wait)
			}
			said := s.Replies(steve.Chat())
			switch {
			case c.reason != "" && !c.private:
				if len(said) != 0 {
					t.Errorf("Replies after a rejection = %v, want none", said)
				}
			case len(said) != 1 || said[0].Private != c.private || said[0].Text != "<linked> & done" || err == nil && id == "":
				t.Errorf("Steve reads %+v, id %q, want it once, private: %v", said, id, c.private)
			}
		})
	}
}

func armResponseURL(status int, body string, header http.Header) func(s *simulator.Slack) {
	return func(s *simulator.Slack) {
		s.Arm("response_url", simulator.Fault{Status: status, Body: body, Header: header})
	}
}

// commandChat is the chat of a slash command of Steve.
func commandChat(t *testing.T, s *simulator.Slack, a *slack.Adapter) adapters.Chat {
	t.Helper()
	got := make(chan adapters.Inbound, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := (&slack.Adapter{APIURL: a.APIURL}).Receive(r, endpoint(), "commands")
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			close(got)
			return
		}
		in.Ack(w, nil)
		got <- in
	}))
	defer hook.Close()
	s.AddApp(simulator.SlackApp{
		AppID:         appID,
		TeamID:        teamID,
		BotUserID:     botUserID,
		Token:         botToken,
		SigningSecret: signingSecret,
		CommandsURL:   hook.URL,
	})
	if _, err := s.SendCommand(t.Context(), appID, steve, "C1", "/claim", "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	return singleMessage(t, <-got, nil).Chat
}

func TestSend_RetryLooksUpFirst(t *testing.T) {
	for name, place := range map[string]adapters.Chat{
		"direct": {ID: steve.ID},
		"room":   {ID: "C1", Group: true},
		"thread": {ID: "C1", Group: true, Thread: "1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSimulator(t)
			s.AddRoom("C1", false)
			s.Arm("chat.postMessage", simulator.Fault{Cut: true}) // sent, but the response is lost
			reply := adapters.Reply{ID: "r1", To: steve.Chat(), Chat: place, Text: "hello"}
			if _, err := a.Send(t.Context(), endpoint(), reply); err == nil {
				t.Fatal("Send over a cut connection = nil, want an error")
			}
			reply.MaybeSent = true
			id, err := a.Send(t.Context(), endpoint(), reply)
			if said := s.Replies(""); err != nil || len(said) != 1 || said[0].ID != id {
				t.Errorf("replies %v, id %q, %v, want only the first reply", said, id, err)
			}
			reply.ID = "r2"
			if _, err := a.Send(t.Context(), endpoint(), reply); err != nil || len(s.Replies("")) != 2 {
				t.Errorf("a reply with another ID was treated as the first: %v, replies %v", err, s.Replies(""))
			}
		})
	}
}

func TestSend_RetryLookupFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault  simulator.Fault
		reason adapters.Reason
	}{
		"may not look": {
			simulator.Fault{Status: 200, Body: `{"ok":false,"error":"missing_scope","needed":"im:history"}`}, "",
		},
		"unavailable": {simulator.Fault{Status: 503}, adapters.Ambiguous},
		"throttled":   {simulator.Fault{Status: 429, Header: http.Header{"Retry-After": {"3"}}}, adapters.Ambiguous},
	} {
		s, a := newSimulator(t)
		s.Arm("conversations.history", c.fault)
		_, err := a.Send(
			t.Context(),
			endpoint(),
			adapters.Reply{ID: "r1", To: steve.Chat(), Chat: adapters.Chat{ID: steve.ID}, Text: "hello", MaybeSent: true},
		)
		var se *adapters.SendError
		if errors.As(err, &se) && se.Reason != c.reason || (err == nil) != (c.reason == "") ||
			len(s.Replies("")) == 0 != (err != nil) {
			t.Errorf("%s: Send = %v, want reason %q; replies %v", name, err, c.reason, s.Replies(""))
		}
	}
}

func TestSend_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	a := &slack.Adapter{APIURL: nobody + "/api/"}
	for name, place := range map[string]adapters.Chat{
		"channel": {ID: "C1"}, "answer": {ID: steve.ID, ReplyToken: nobody + "/response/1"},
	} {
		_, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", Chat: place, Text: "hello"})
		var se *adapters.SendError
		if !errors.As(err, &se) || se.Reason != adapters.Unreachable || strings.Contains(err.Error(), "://") {
			t.Errorf("%s: %v, want unreachable", name, err)
		}
	}
}

func TestSend_NoToken(t *testing.T) {
	_, a := newSimulator(t)
	ep := endpoint()
	ep.Credentials = adapters.Credentials{}
	_, err := a.Send(t.Context(), ep, adapters.Reply{ID: "r1", To: steve.Chat(), Text: "hello"})
	var se *adapters.SendError
	if !errors.As(err, &se) || se.Reason != adapters.BadSecret {
		t.Errorf("%v, want bad_secret", err)
	}
}

func TestSend_ExpiredResponseURL(t *testing.T) {
	s, a := newSimulator(t)
	place := commandChat(t, s, a)
	for range 6 {
		_, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", To: steve.Chat(), Chat: place, Text: "hello"})
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	s.Now = func() time.Time { return now.Add(time.Hour) }
	_, err := a.Send(t.Context(), endpoint(), adapters.Reply{ID: "r1", To: steve.Chat(), Chat: place, Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	var private []bool
	for _, l := range s.Replies(steve.Chat()) {
		private = append(private, l.Private)
	}
	got, err := json.Marshal(private)
	if want := "[true,true,true,true,true,false,false]"; err != nil || string(got) != want {
		t.Errorf("private: %s, want %s", got, want)
	}
}
