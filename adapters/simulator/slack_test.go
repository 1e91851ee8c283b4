package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters/simulator"
)

var slackSteve = simulator.SlackUser{Team: "T1", ID: "U1", Name: "Steve"}

// A slackAppServer is an app that answers as told and keeps what it was sent.
type slackAppServer struct {
	mu        sync.Mutex
	responses []http.HandlerFunc // for the requests to come; then 200
	headers   []http.Header
	bodies    []string
}

func (a *slackAppServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.headers, a.bodies = append(a.headers, r.Header), append(a.bodies, string(body))
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	if len(a.responses) > 0 {
		answer, a.responses = a.responses[0], a.responses[1:]
	}
	a.mu.Unlock()
	answer(w, r)
}

func respondStatus(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func respondText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// startSlack starts a pretend Slack with one app, which answers as told.
func startSlack(t *testing.T, answers ...http.HandlerFunc) (*simulator.Slack, *slackAppServer) {
	t.Helper()
	app := &slackAppServer{responses: answers}
	hook := httptest.NewServer(app)
	t.Cleanup(hook.Close)
	s := simulator.NewSlack()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.SetURL(server.URL)
	s.RetryScale = 0
	s.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", BotUserID: "UBOT", Token: "xoxb-1", SigningSecret: "secret", EventsURL: hook.URL, CommandsURL: hook.URL, InteractivityURL: hook.URL})
	return s, app
}

// callSlack calls a method of the Web API and gives its answer.
func callSlack(t *testing.T, s *simulator.Slack, method string, form url.Values) map[string]any {
	t.Helper()
	resp, err := http.PostForm(s.APIURL()+method, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestSlack_Retries(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	final := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Slack-No-Retry", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		reasons []string
		taken   bool
	}{
		"AtOnce":    {nil, []string{""}, true},
		"Second":    {[]http.HandlerFunc{respondStatus(503)}, []string{"", "http_error"}, true},
		"Cut":       {[]http.HandlerFunc{cut}, []string{"", "connection_failed"}, true},
		"Hang":      {[]http.HandlerFunc{hang}, []string{"", "http_timeout"}, true},
		"Redirect":  {[]http.HandlerFunc{respondStatus(302)}, []string{"", "http_error"}, true},
		"Never":     {slices.Repeat([]http.HandlerFunc{respondStatus(500)}, 4), []string{"", "http_error", "http_error", "http_error"}, false},
		"ToldNotTo": {[]http.HandlerFunc{final}, []string{""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, app := startSlack(t, c.answers...)
			if name == "Hang" {
				s.Timeout = 200 * time.Millisecond
			}
			d, err := s.SendText(t.Context(), "A1", slackSteve, "hello")
			if err != nil || d.Accepted() != c.taken || len(d.Attempts) != len(c.reasons) {
				t.Fatalf("%+v, %v; want %d attempts, taken: %v", d, err, len(c.reasons), c.taken)
			}
			for i, h := range app.headers {
				if got := h.Get("X-Slack-Retry-Reason"); got != c.reasons[i] {
					t.Errorf("attempt %d: reason %q; want %q", i, got, c.reasons[i])
				}
				if app.bodies[i] != app.bodies[0] {
					t.Errorf("attempt %d has another body", i)
				}
			}
		})
	}
}

type unavailableTransport func()

func (a unavailableTransport) RoundTrip(*http.Request) (*http.Response, error) {
	a()
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
}

func TestSlack_RetryDelays(t *testing.T) {
	for name, c := range map[string]struct {
		scale float64
		until time.Duration
		want  []time.Duration
	}{
		"Original": {1, time.Hour, []time.Duration{0, 0, time.Minute, 6 * time.Minute}},
		"Faster":   {0.01, time.Hour, []time.Duration{0, 0, 600 * time.Millisecond, 3600 * time.Millisecond}},
		"CutShort": {1, 2 * time.Minute, []time.Duration{0, 0, time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var at []time.Duration
				s := simulator.NewSlack()
				s.RetryScale = c.scale
				s.Client = &http.Client{Transport: unavailableTransport(func() { at = append(at, time.Since(began)) })}
				s.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", EventsURL: "http://app.test/"})
				ctx, cancel := context.WithTimeout(t.Context(), c.until)
				defer cancel()
				d, err := s.SendText(ctx, "A1", slackSteve, "hello")
				if err != nil || d.Accepted() || !slices.Equal(at, c.want) {
					t.Errorf("attempts at %v, %v; want %v", at, err, c.want)
				}
			})
		})
	}
}

func TestSlack_MentionEvents(t *testing.T) {
	s, app := startSlack(t)
	stranger := simulator.SlackUser{Team: "T9", ID: "U9", Name: "Steve"}
	if _, _, err := s.SendMention(t.Context(), "A1", stranger, "C1", "1 < 2 & more"); err != nil {
		t.Fatal(err)
	}
	var types []string
	ids, stamps := map[string]bool{}, map[string]bool{}
	for _, body := range app.bodies {
		var e struct {
			TeamID string `json:"team_id"`
			ID     string `json:"event_id"`
			Shared bool   `json:"is_ext_shared_channel"`
			Auth   []struct {
				TeamID string `json:"team_id"`
			} `json:"authorizations"`
			Event struct{ Type, Text, TS, User, UserTeam string }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		if e.TeamID != "T9" || !e.Shared || e.Auth[0].TeamID != "T1" || e.Event.Text != "<@UBOT> 1 &lt; 2 &amp; more" {
			t.Errorf("%+v", e)
		}
		types, ids[e.ID], stamps[e.Event.TS] = append(types, e.Event.Type), true, true
	}
	slices.Sort(types)
	if !slices.Equal(types, []string{"app_mention", "message"}) || len(ids) != 2 || len(stamps) != 1 {
		t.Errorf("types %v, %d event ids, %d messages; want both of one message", types, len(ids), len(stamps))
	}
	if got := s.Lines("C1"); len(got) != 1 || got[0].Sender != "T9:U9" || got[0].FromBot() {
		t.Errorf("the room reads %+v", got)
	}
}

func TestSlack_CommandAsText(t *testing.T) {
	s, app := startSlack(t)
	if _, err := s.SendText(t.Context(), "A1", slackSteve, "/claim WDJBMJ"); !errors.Is(err, simulator.ErrSlackCommand) || len(app.bodies) != 0 {
		t.Errorf("%v, %d requests; a command is never a message", err, len(app.bodies))
	}
}

func TestSlack_Command(t *testing.T) {
	s, app := startSlack(t, respondText(`{"response_type":"ephemeral","text":"One moment &amp; …"}`), respondText("plain"))
	got, err := s.SendCommand(t.Context(), "A1", slackSteve, "C1", "/claim", "WDJBMJ")
	if err != nil || got != (simulator.SlackResponse{Status: 200, ResponseType: "ephemeral", Text: "One moment & …"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.SendCommand(t.Context(), "A1", slackSteve, "", "/help", ""); err != nil || got.Text != "plain" {
		t.Errorf("%+v, %v", got, err)
	}
	form, err := url.ParseQuery(app.bodies[0])
	if err != nil || form.Get("command") != "/claim" || form.Get("text") != "WDJBMJ" || form.Get("team_id") != "T1" || form.Get("channel_id") != "C1" {
		t.Errorf("%v, %v", form, err)
	}
	if form, err := url.ParseQuery(app.bodies[1]); err != nil || form.Get("channel_name") != "directmessage" {
		t.Errorf("%v, %v", form, err)
	}
	answers := form.Get("response_url")
	now := time.Now()
	s.Now = func() time.Time { return now }
	for i, want := range []string{"ok", "no_text", "ok", "ok", "ok", "ok", "used_url"} {
		text := `{"text":"done &amp; done"}`
		if i == 1 {
			text = `{"text":""}`
		}
		if got := postResponseURL(t, answers, text); got != want {
			t.Errorf("answer %d: %q; want %q", i, got, want)
		}
	}
	now = now.Add(31 * time.Minute)
	if got := postResponseURL(t, answers, `{"text":"late"}`); got != "expired_url" {
		t.Errorf("after half an hour: %q", got)
	}
	lines := s.Replies(slackSteve.Chat())
	if len(lines) != 5 || !lines[0].Private || lines[0].Text != "done & done" {
		t.Errorf("Steve reads %+v", lines)
	}
}

func postResponseURL(t *testing.T, to, body string) string {
	t.Helper()
	resp, err := http.Post(to, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func TestSlack_Verify(t *testing.T) {
	echo := func(body string) string {
		var v struct{ Challenge string }
		_ = json.Unmarshal([]byte(body), &v)
		return v.Challenge
	}
	s, app := startSlack(t, respondText("something else"))
	if err := s.Verify(t.Context(), "A1"); err == nil {
		t.Error("another answer than the challenge passes")
	}
	app.responses = []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
		app.mu.Lock()
		defer app.mu.Unlock()
		_, _ = io.WriteString(w, echo(app.bodies[len(app.bodies)-1]))
	}}
	if err := s.Verify(t.Context(), "A1"); err != nil {
		t.Error(err)
	}
}

func TestSlack_WebAPI(t *testing.T) {
	s, _ := startSlack(t)
	s.AddUser(slackSteve)
	s.AddRoom("C1", false)
	s.AddRoom("C2", true)
	for name, c := range map[string]struct {
		method string
		form   url.Values
		want   string // the error; empty for ok
	}{
		"NoToken":       {"auth.test", url.Values{}, "not_authed"},
		"WrongToken":    {"auth.test", url.Values{"token": {"xoxb-2"}}, "invalid_auth"},
		"Whoami":        {"auth.test", url.Values{"token": {"xoxb-1"}}, ""},
		"Room":          {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"C1"}, "text": {"hi"}}, ""},
		"Person":        {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"U1"}, "text": {"hi"}}, ""},
		"Stranger":      {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"U7"}, "text": {"hi"}}, "channel_not_found"},
		"NoRoom":        {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"C7"}, "text": {"hi"}}, "channel_not_found"},
		"Archived":      {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"C2"}, "text": {"hi"}}, "is_archived"},
		"Blank":         {"chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"C1"}, "text": {" "}}, "no_text"},
		"Ephemeral":     {"chat.postEphemeral", url.Values{"token": {"xoxb-1"}, "channel": {"C1"}, "user": {"U1"}, "text": {"hi"}}, ""},
		"EphemeralGone": {"chat.postEphemeral", url.Values{"token": {"xoxb-1"}, "channel": {"C1"}, "user": {"U7"}, "text": {"hi"}}, "user_not_in_channel"},
		"User":          {"users.info", url.Values{"token": {"xoxb-1"}, "user": {"U1"}}, ""},
		"NoUser":        {"users.info", url.Values{"token": {"xoxb-1"}, "user": {"U7"}}, "user_not_found"},
		"Open":          {"conversations.open", url.Values{"token": {"xoxb-1"}, "users": {"U1"}}, ""},
		"Bot":           {"bots.info", url.Values{"token": {"xoxb-1"}, "bot": {"B1"}}, ""},
		"NoBot":         {"bots.info", url.Values{"token": {"xoxb-1"}, "bot": {"B7"}}, "bot_not_found"},
		"NoMethod":      {"chat.nonsense", url.Values{"token": {"xoxb-1"}}, "unknown_method"},
	} {
		answer := callSlack(t, s, c.method, c.form)
		if got, _ := answer["error"].(string); got != c.want || answer["ok"] != (c.want == "") {
			t.Errorf("%s: %v; want %q", name, answer, c.want)
		}
	}
}

func TestSlack_UnescapedText(t *testing.T) {
	s, _ := startSlack(t)
	s.AddUser(slackSteve)
	for sent, want := range map[string]string{
		"&lt;!channel&gt; &amp;":      "<!channel> &",
		"<!channel>":                  "@channel",
		"<https://evil.example|bank>": "bank",
		"1 < 2":                       "1 < 2",
	} {
		callSlack(t, s, "chat.postMessage", url.Values{"token": {"xoxb-1"}, "channel": {"U1"}, "text": {sent}})
		said := s.Replies(slackSteve.Chat())
		if got := said[len(said)-1].Text; got != want {
			t.Errorf("%q is shown as %q; want %q", sent, got, want)
		}
	}
}

func TestSlack_UnknownApp(t *testing.T) {
	s, _ := startSlack(t)
	if _, err := s.SendText(t.Context(), "A7", slackSteve, "hello"); err == nil {
		t.Error("an unknown app is told")
	}
	if _, err := s.SendCommand(t.Context(), "A7", slackSteve, "", "/claim", ""); err == nil {
		t.Error("an unknown app is commanded")
	}
}

func TestSlack_EventAndButton(t *testing.T) {
	s, app := startSlack(t)
	if d, err := s.SendEvent(t.Context(), "A1", json.RawMessage(`{"type":"app_uninstalled"}`)); err != nil || !d.Accepted() {
		t.Errorf("%+v, %v", d, err)
	}
	if a, err := s.PressButton(t.Context(), "A1", slackSteve, "", "yes"); err != nil || a.Err != nil || a.Status != 200 {
		t.Errorf("%+v, %v", a, err)
	}
	if !strings.Contains(app.bodies[0], `"app_uninstalled"`) || !strings.HasPrefix(app.bodies[1], "payload=") {
		t.Errorf("the app was sent %q", app.bodies)
	}
}
