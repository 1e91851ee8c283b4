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

// A slackAppServer is a Slack app that records requests and sends the given responses.
type slackAppServer struct {
	mu        sync.Mutex
	responses []http.HandlerFunc // for the next requests; after them 200
	headers   []http.Header
	bodies    []string
}

func (a *slackAppServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.headers, a.bodies = append(a.headers, r.Header), append(a.bodies, string(body))
	respond := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	if len(a.responses) > 0 {
		respond, a.responses = a.responses[0], a.responses[1:]
	}
	a.mu.Unlock()
	respond(w, r)
}

func respondStatus(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func respondText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// startSlack starts a simulated Slack with one app that sends the given responses.
func startSlack(t *testing.T, responses ...http.HandlerFunc) (*simulator.Slack, *slackAppServer) {
	t.Helper()
	app := &slackAppServer{responses: responses}
	appServer := httptest.NewServer(app)
	t.Cleanup(appServer.Close)
	s := simulator.NewSlack()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.SetURL(server.URL)
	s.RetryScale = 0
	s.AddApp(simulator.SlackApp{
		AppID: "A1", TeamID: "T1", BotUserID: "UBOT", Token: "xoxb-1", SigningSecret: "secret",
		EventsURL: appServer.URL, CommandsURL: appServer.URL, InteractivityURL: appServer.URL,
	})
	return s, app
}

// callSlack calls a method of the Web API and returns its response.
func callSlack(t *testing.T, s *simulator.Slack, method string, form url.Values) map[string]any {
	t.Helper()
	resp, err := http.PostForm(s.APIURL()+method, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSlack_Retries(t *testing.T) {
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	noRetry := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Slack-No-Retry", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	const httpError = "http_error"
	for name, c := range map[string]struct {
		responses    []http.HandlerFunc
		wantReasons  []string // X-Slack-Retry-Reason of each attempt
		wantAccepted bool
	}{
		"first attempt":  {nil, []string{""}, true},
		"second attempt": {[]http.HandlerFunc{respondStatus(503)}, []string{"", httpError}, true},
		"connection cut": {[]http.HandlerFunc{cut}, []string{"", "connection_failed"}, true},
		"redirect":       {[]http.HandlerFunc{respondStatus(302)}, []string{"", httpError}, true},
		"always fails": {
			slices.Repeat([]http.HandlerFunc{respondStatus(500)}, 4),
			[]string{"", httpError, httpError, httpError},
			false,
		},
		"no retry requested": {[]http.HandlerFunc{noRetry}, []string{""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, app := startSlack(t, c.responses...)
			d, err := s.SendText(t.Context(), "A1", slackSteve, "hello")
			if err != nil || d.Accepted() != c.wantAccepted || len(d.Attempts) != len(c.wantReasons) {
				t.Fatalf("SendText = %+v, %v, want %d attempts, accepted: %v",
					d, err, len(c.wantReasons), c.wantAccepted)
			}
			for i, header := range app.headers {
				if got := header.Get("X-Slack-Retry-Reason"); got != c.wantReasons[i] {
					t.Errorf("reason of attempt %d = %q, want %q", i, got, c.wantReasons[i])
				}
				if app.bodies[i] != app.bodies[0] {
					t.Errorf("body of attempt %d = %s, want that of the first attempt", i, app.bodies[i])
				}
			}
		})
	}
}

// A roundTripFunc is an app without a network, so that tests can use a fake clock.
type roundTripFunc func(r *http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSlack_RetryAfterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.NewSlack()
		s.RetryScale = 0
		var reasons []string
		s.Client = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			reasons = append(reasons, r.Header.Get("X-Slack-Retry-Reason"))
			if len(reasons) == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})}
		s.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", EventsURL: "http://app.test/"})
		d, err := s.SendText(t.Context(), "A1", slackSteve, "hello")
		if want := []string{"", "http_timeout"}; err != nil || !d.Accepted() || !slices.Equal(reasons, want) {
			t.Errorf("SendText = %+v, %v after attempts for %q, want %q", d, err, reasons, want)
		}
	})
}

func TestSlack_RetryDelays(t *testing.T) {
	for name, c := range map[string]struct {
		scale float64
		until time.Duration
		want  []time.Duration
	}{
		"original pace": {1, time.Hour, []time.Duration{0, 0, time.Minute, 6 * time.Minute}},
		"scaled":        {0.01, time.Hour, []time.Duration{0, 0, 600 * time.Millisecond, 3600 * time.Millisecond}},
		"context ends":  {1, 2 * time.Minute, []time.Duration{0, 0, time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var attempts []time.Duration
				s := simulator.NewSlack()
				s.RetryScale = c.scale
				s.Client = &http.Client{Transport: roundTripFunc(func(*http.Request) (*http.Response, error) {
					attempts = append(attempts, time.Since(start))
					return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
				})}
				s.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", EventsURL: "http://app.test/"})
				ctx, cancel := context.WithTimeout(t.Context(), c.until)
				defer cancel()
				d, err := s.SendText(ctx, "A1", slackSteve, "hello")
				if err != nil || d.Accepted() || !slices.Equal(attempts, c.want) {
					t.Errorf("attempts at %v, error %v, want %v", attempts, err, c.want)
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
	ids, timestamps := map[string]bool{}, map[string]bool{}
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
		text := "<@UBOT> 1 &lt; 2 &amp; more"
		if e.TeamID != "T9" || !e.Shared || e.Auth[0].TeamID != "T1" || e.Event.Text != text {
			t.Errorf("event = %+v, want %q of T9, shared, for T1", e, text)
		}
		types, ids[e.ID], timestamps[e.Event.TS] = append(types, e.Event.Type), true, true
	}
	slices.Sort(types)
	if !slices.Equal(types, []string{"app_mention", "message"}) || len(ids) != 2 || len(timestamps) != 1 {
		t.Errorf("events %v with %d IDs of %d messages, want app_mention and message of one message",
			types, len(ids), len(timestamps))
	}
	if got := s.Lines("C1"); len(got) != 1 || got[0].Sender != "T9:U9" || got[0].FromBot() {
		t.Errorf("Lines = %+v, want one of T9:U9", got)
	}
}

func TestSlack_CommandAsText(t *testing.T) {
	s, app := startSlack(t)
	_, err := s.SendText(t.Context(), "A1", slackSteve, "/claim WDJBMJ")
	if !errors.Is(err, simulator.ErrSlackCommand) || len(app.bodies) != 0 {
		t.Errorf("SendText = %v after %d requests, want ErrSlackCommand after 0", err, len(app.bodies))
	}
}

func TestSlack_Command(t *testing.T) {
	s, app := startSlack(t,
		respondText(`{"response_type":"ephemeral","text":"One moment &amp; …"}`), respondText("plain"))
	got, err := s.SendCommand(t.Context(), "A1", slackSteve, "C1", "/claim", "WDJBMJ")
	want := simulator.SlackResponse{Status: 200, ResponseType: "ephemeral", Text: "One moment & …"}
	if err != nil || got != want {
		t.Errorf("SendCommand = %+v, %v, want %+v, nil", got, err, want)
	}
	got, err = s.SendCommand(t.Context(), "A1", slackSteve, "", "/help", "")
	if err != nil || got.Text != "plain" {
		t.Errorf("SendCommand = %+v, %v, want the plain text", got, err)
	}
	form := parseForm(t, app.bodies[0])
	for name, want := range map[string]string{
		"command": "/claim", "text": "WDJBMJ", "team_id": "T1", "channel_id": "C1",
	} {
		if got := form.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := parseForm(t, app.bodies[1]).Get("channel_name"); got != "directmessage" {
		t.Errorf("channel_name = %q, want directmessage", got)
	}
}

func parseForm(t *testing.T, body string) url.Values {
	t.Helper()
	form, err := url.ParseQuery(body)
	if err != nil {
		t.Fatal(err)
	}
	return form
}

func TestSlack_ResponseURL(t *testing.T) {
	s, app := startSlack(t)
	if _, err := s.SendCommand(t.Context(), "A1", slackSteve, "C1", "/claim", "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	responseURL := parseForm(t, app.bodies[0]).Get("response_url")
	now := time.Now()
	s.Now = func() time.Time { return now }
	for i, want := range []string{"ok", "no_text", "ok", "ok", "ok", "ok", "used_url"} {
		body := `{"text":"done &amp; done"}`
		if want == "no_text" {
			body = `{"text":""}`
		}
		if got := postResponseURL(t, responseURL, body); got != want {
			t.Errorf("result of post %d = %q, want %q", i, got, want)
		}
	}
	now = now.Add(31 * time.Minute)
	if got := postResponseURL(t, responseURL, `{"text":"late"}`); got != "expired_url" {
		t.Errorf("result after 31 minutes = %q, want expired_url", got)
	}
	lines := s.Replies(slackSteve.Chat())
	if len(lines) != 5 || !lines[0].Private || lines[0].Text != "done & done" {
		t.Errorf("Replies = %+v, want 5 private ones", lines)
	}
}

// postResponseURL posts to a response URL and returns the body of the response.
func postResponseURL(t *testing.T, responseURL, body string) string {
	t.Helper()
	resp, err := http.Post(responseURL, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	result, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(result)
}

func TestSlack_Verify(t *testing.T) {
	s, app := startSlack(t, respondText("something else"))
	if err := s.Verify(t.Context(), "A1"); err == nil {
		t.Error("Verify with a wrong response = nil, want an error")
	}
	app.responses = []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
		app.mu.Lock()
		defer app.mu.Unlock()
		var request struct{ Challenge string }
		_ = json.Unmarshal([]byte(app.bodies[len(app.bodies)-1]), &request)
		_, _ = io.WriteString(w, request.Challenge)
	}}
	if err := s.Verify(t.Context(), "A1"); err != nil {
		t.Errorf("Verify with the challenge = %v, want nil", err)
	}
}

func TestSlack_WebAPI(t *testing.T) {
	s, _ := startSlack(t)
	s.AddUser(slackSteve)
	s.AddRoom("C1", false)
	s.AddRoom("C2", true)
	with := func(pairs ...string) url.Values {
		form := url.Values{"token": {"xoxb-1"}}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return form
	}
	const post, ephemeral = "chat.postMessage", "chat.postEphemeral"
	for name, c := range map[string]struct {
		method string
		form   url.Values
		want   string // error code, or "" for success
	}{
		"no token":                {"auth.test", url.Values{}, "not_authed"},
		"wrong token":             {"auth.test", with("token", "xoxb-2"), "invalid_auth"},
		"valid token":             {"auth.test", with(), ""},
		"post to channel":         {post, with("channel", "C1", "text", "hi"), ""},
		"post to user":            {post, with("channel", "U1", "text", "hi"), ""},
		"post to unknown user":    {post, with("channel", "U7", "text", "hi"), "channel_not_found"},
		"post to unknown channel": {post, with("channel", "C7", "text", "hi"), "channel_not_found"},
		"post to archive":         {post, with("channel", "C2", "text", "hi"), "is_archived"},
		"post without text":       {post, with("channel", "C1", "text", " "), "no_text"},
		"ephemeral":               {ephemeral, with("channel", "C1", "user", "U1", "text", "hi"), ""},
		"ephemeral to unknown":    {ephemeral, with("channel", "C1", "user", "U7", "text", "hi"), "user_not_in_channel"},
		"user":                    {"users.info", with("user", "U1"), ""},
		"unknown user":            {"users.info", with("user", "U7"), "user_not_found"},
		"open conversation":       {"conversations.open", with("users", "U1"), ""},
		"bot":                     {"bots.info", with("bot", "B1"), ""},
		"unknown bot":             {"bots.info", with("bot", "B7"), "bot_not_found"},
		"unknown method":          {"chat.nonsense", with(), "unknown_method"},
	} {
		doc := callSlack(t, s, c.method, c.form)
		if got, _ := doc["error"].(string); got != c.want || doc["ok"] != (c.want == "") {
			t.Errorf("%s: response = %v, want error %q", name, doc, c.want)
		}
	}
}

func TestSlack_UnescapedText(t *testing.T) {
	s, _ := startSlack(t)
	s.AddUser(slackSteve)
	for text, want := range map[string]string{
		"&lt;!channel&gt; &amp;":      "<!channel> &",
		"<!channel>":                  "@channel",
		"<https://evil.example|bank>": "bank",
		"1 < 2":                       "1 < 2",
	} {
		form := url.Values{"token": {"xoxb-1"}, "channel": {"U1"}, "text": {text}}
		callSlack(t, s, "chat.postMessage", form)
		lines := s.Replies(slackSteve.Chat())
		if got := lines[len(lines)-1].Text; got != want {
			t.Errorf("line of %q = %q, want %q", text, got, want)
		}
	}
}

func TestSlack_UnknownApp(t *testing.T) {
	s, _ := startSlack(t)
	if _, err := s.SendText(t.Context(), "A7", slackSteve, "hello"); err == nil {
		t.Error("SendText to an unknown app = nil, want an error")
	}
	if _, err := s.SendCommand(t.Context(), "A7", slackSteve, "", "/claim", ""); err == nil {
		t.Error("SendCommand to an unknown app = nil, want an error")
	}
}

func TestSlack_EventAndButton(t *testing.T) {
	s, app := startSlack(t)
	d, err := s.SendEvent(t.Context(), "A1", json.RawMessage(`{"type":"app_uninstalled"}`))
	if err != nil || !d.Accepted() {
		t.Errorf("SendEvent = %+v, %v, want an accepted event", d, err)
	}
	attempt, err := s.PressButton(t.Context(), "A1", slackSteve, "", "yes")
	if err != nil || attempt.Err != nil || attempt.Status != 200 {
		t.Errorf("PressButton = %+v, %v, want status 200", attempt, err)
	}
	if !strings.Contains(app.bodies[0], `"app_uninstalled"`) || !strings.HasPrefix(app.bodies[1], "payload=") {
		t.Errorf("request bodies = %q, want the event and an interaction", app.bodies)
	}
}
