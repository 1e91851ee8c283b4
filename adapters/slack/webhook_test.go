package slack_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

// newWebhookServer starts a simulated Slack and a server for its webhooks.
func newWebhookServer(t *testing.T) (*simulator.Slack, *adaptertest.Gateway) {
	t.Helper()
	s, adapter := newSimulator(t)
	adapter.Now = nil
	d := &adaptertest.Gateway{
		Adapter: adapter, Endpoint: endpoint(), Webhooks: []string{"events", "commands", "interactivity"},
	}
	hooks := httptest.NewServer(d)
	t.Cleanup(hooks.Close)
	s.RetryScale = 0
	s.AddApp(simulator.SlackApp{
		AppID: appID, TeamID: teamID, BotUserID: botUserID, Token: botToken, SigningSecret: signingSecret,
		EventsURL: hooks.URL + "/events", CommandsURL: hooks.URL + "/commands",
		InteractivityURL: hooks.URL + "/interactivity",
	})
	return s, d
}

func TestWebhook_Conversation(t *testing.T) {
	s, d := newWebhookServer(t)
	ctx := t.Context()
	if err := s.Verify(ctx, appID); err != nil {
		t.Fatal(err)
	}
	answer := func(text string) {
		t.Helper()
		m := d.Store.Last()
		_, err := d.Adapter.Send(ctx, endpoint(), adapters.Reply{ID: "r-" + text, To: m.Sender.ID, Chat: m.Chat, Text: text})
		if err != nil {
			t.Fatal(err)
		}
	}

	if got, err := s.SendText(ctx, appID, steve, "1 < 2 & <!channel>"); err != nil || !got.Accepted() {
		t.Fatalf("%+v, %v", got, err)
	}
	m := d.Store.Last()
	if m.Sender.ID != steve.Chat() || m.Text != "1 < 2 & <!channel>" || m.Chat.Group || m.UnprovenReason != "" {
		t.Errorf("direct message = %+v, want the text of Steve", m)
	}
	answer("is <b> & so")

	if got, err := s.SendCommand(ctx, appID, steve, "C1", "/claim", "WDJBMJ"); err != nil || got.Text != "One moment …" {
		t.Errorf("%+v, %v", got, err)
	}
	m = d.Store.Last()
	if m.Command == nil || *m.Command != (adapters.Command{Name: "claim", Args: "WDJBMJ"}) || m.Chat.Group ||
		m.UnprovenReason != "" {
		t.Errorf("slash command = %+v, want the claim in a direct chat", m)
	}
	answer("linked")

	message, mention, err := s.SendMention(ctx, appID, steve, "C1", "hello")
	if err != nil || !message.Accepted() || !mention.Accepted() {
		t.Fatalf("%+v, %+v, %v", message, mention, err)
	}
	if m := d.Store.Last(); m.Text != "hello" || !m.Chat.Group || m.Chat.Thread != m.ProviderID {
		t.Errorf("mention = %+v, want hello in a thread of its own", m)
	}
	answer("hello room")

	if got, err := s.PressButton(ctx, appID, steve, "", "yes"); err != nil || got.Status != 200 {
		t.Errorf("%+v, %v", got, err)
	}
	if m := d.Store.Last(); m.Kind != adapters.Callback || m.Action != "yes" {
		t.Errorf("button = %+v, want the action yes", m)
	}
	if len(d.Store.Messages()) != 4 {
		t.Errorf("%d messages, want 4, the mention once", len(d.Store.Messages()))
	}
	direct := s.Replies(steve.Chat())
	if len(direct) != 2 || direct[0].Text != "is <b> & so" || direct[0].Private || direct[1].Text != "linked" ||
		!direct[1].Private {
		t.Errorf("Replies to Steve = %+v, want a message and a private response", direct)
	}
	if room := s.Replies("C1"); len(room) != 1 || room[0].Text != "hello room" {
		t.Errorf("Replies in the room = %+v, want hello room", room)
	}
}

func TestWebhook_RedeliveredUntilStored(t *testing.T) {
	s, d := newWebhookServer(t)
	d.Store.NextErr = adaptertest.FailTimes(3)
	got, err := s.SendText(t.Context(), appID, steve, "hello")
	if err != nil || !got.Accepted() || len(got.Attempts) != 4 || len(d.Store.Messages()) != 1 {
		t.Errorf("%+v, %v, stored %d, want the fourth attempt stored", got, err, len(d.Store.Messages()))
	}
	d.Store.NextErr = adaptertest.FailTimes(1)
	response, err := s.SendCommand(t.Context(), appID, steve, "", "/claim", "WDJBMJ")
	if err != nil || !strings.Contains(response.Text, "try again") || len(d.Store.Messages()) != 1 {
		t.Errorf("%+v, %v, want a request to try again", response, err)
	}
}

func TestWebhook_ExternalUsers(t *testing.T) {
	s, d := newWebhookServer(t)
	stranger := simulator.SlackUser{Team: "T0EXTERN1", ID: steve.ID, Name: "Steve"}
	said := map[string]func(ctx context.Context) error{
		"message": func(ctx context.Context) error {
			_, err := s.SendText(ctx, appID, stranger, "claim WDJBMJ")
			return err
		},
		"mention": func(ctx context.Context) error {
			_, _, err := s.SendMention(ctx, appID, stranger, "C1", "claim WDJBMJ")
			return err
		},
		"slash": func(ctx context.Context) error {
			_, err := s.SendCommand(ctx, appID, stranger, "C1", "/claim", "WDJBMJ")
			return err
		},
		"press": func(ctx context.Context) error {
			_, err := s.PressButton(ctx, appID, stranger, "C1", "yes")
			return err
		},
	}
	for name, say := range said {
		if err := say(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := d.Store.Last(); m.Sender.ID != "T0EXTERN1:"+steve.ID || m.UnprovenReason != "external" {
			t.Errorf("%s: %q, unproven %q, want the external user", name, m.Sender.ID, m.UnprovenReason)
		}
	}
}

// TestIsProbe checks which requests are answered without a signature because they only check the
// certificate.
func TestIsProbe(t *testing.T) {
	a := &slack.Adapter{}
	for name, c := range map[string]struct {
		method, target, body string
		signed, want         bool
	}{
		"GET":                 {method: http.MethodGet, target: "?ssl_check=1", want: true},
		"GET with token":      {method: http.MethodGet, target: "?token=abc&ssl_check=1", want: true},
		"GET of something":    {method: http.MethodGet, target: "?ssl_check=0"},
		"GET without query":   {method: http.MethodGet},
		"POST":                {method: http.MethodPost, body: "token=abc&ssl_check=1", want: true},
		"POST with signature": {method: http.MethodPost, body: "ssl_check=1", signed: true},
		"POST of a command":   {method: http.MethodPost, body: "ssl_check=1&command=%2Fclaim&text=WDJBMJ"},
		"POST of a button":    {method: http.MethodPost, body: "ssl_check=1&payload=%7B%7D"},
		"POST with query":     {method: http.MethodPost, target: "?ssl_check=1", body: "ssl_check=1"},
		"longest POST":        {method: http.MethodPost, body: "ssl_check=1&a=" + strings.Repeat("a", 1010), want: true},
		"long POST":           {method: http.MethodPost, body: "ssl_check=1&a=" + strings.Repeat("a", 1011)},
		"DELETE":              {method: http.MethodDelete, target: "?ssl_check=1"},
	} {
		r := httptest.NewRequest(c.method, "/hooks/slack/i1/commands"+c.target, strings.NewReader(c.body))
		if c.signed {
			r.Header.Set("X-Slack-Signature", "v0=00")
		}
		if got := a.IsProbe(r); got != c.want {
			t.Errorf("%s: IsProbe() = %v, want %v", name, got, c.want)
		}
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != c.body {
			t.Errorf("%s: the body cannot be read again: %q, %v", name, body, err)
		}
	}
}
