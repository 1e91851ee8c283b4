package slack_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

// A webhookServer serves the webhooks and stores each message once, or none while it is set to fail.
type webhookServer struct {
	adapter  *slack.Adapter
	mu       sync.Mutex
	failures int // number of requests to reject
	messages []adapters.Message
	keys     map[string]bool
}

func (d *webhookServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := d.adapter.Receive(r, endpoint(), strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	in.Ack(w, d.store(in.Messages))
}

func (d *webhookServer) store(ms []adapters.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failures > 0 {
		d.failures--
		return errors.New("store failed")
	}
	for _, m := range ms {
		if !d.keys[m.Key] {
			d.keys[m.Key] = true
			d.messages = append(d.messages, m)
		}
	}
	return nil
}

func (d *webhookServer) lastMessage() adapters.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.messages) == 0 {
		return adapters.Message{}
	}
	return d.messages[len(d.messages)-1]
}

// newWebhookServer starts a simulated Slack and a server for its webhooks.
func newWebhookServer(t *testing.T) (*simulator.Slack, *webhookServer) {
	t.Helper()
	s, adapter := newSimulator(t)
	adapter.Now = nil
	d := &webhookServer{adapter: adapter, keys: map[string]bool{}}
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
		m := d.lastMessage()
		_, err := d.adapter.Send(ctx, endpoint(), adapters.Reply{ID: "r-" + text, To: m.Sender.ID, Chat: m.Chat, Text: text})
		if err != nil {
			t.Fatal(err)
		}
	}

	if got, err := s.SendText(ctx, appID, steve, "1 < 2 & <!channel>"); err != nil || !got.Accepted() {
		t.Fatalf("%+v, %v", got, err)
	}
	m := d.lastMessage()
	if m.Sender.ID != steve.Chat() || m.Text != "1 < 2 & <!channel>" || m.Chat.Group || m.UnprovenReason != "" {
		t.Errorf("direct message: %+v", m)
	}
	answer("is <b> & so")

	if got, err := s.SendCommand(ctx, appID, steve, "C1", "/claim", "WDJBMJ"); err != nil || got.Text != "One moment …" {
		t.Errorf("%+v, %v", got, err)
	}
	m = d.lastMessage()
	if m.Command == nil || *m.Command != (adapters.Command{Name: "claim", Args: "WDJBMJ"}) || m.Chat.Group ||
		m.UnprovenReason != "" {
		t.Errorf("slash command: %+v", m)
	}
	answer("linked")

	message, mention, err := s.SendMention(ctx, appID, steve, "C1", "hello")
	if err != nil || !message.Accepted() || !mention.Accepted() {
		t.Fatalf("%+v, %+v, %v", message, mention, err)
	}
	if m := d.lastMessage(); m.Text != "hello" || !m.Chat.Group || m.Chat.Thread != m.ProviderID {
		t.Errorf("mention: %+v", m)
	}
	answer("hello room")

	if got, err := s.PressButton(ctx, appID, steve, "", "yes"); err != nil || got.Status != 200 {
		t.Errorf("%+v, %v", got, err)
	}
	if m := d.lastMessage(); m.Kind != adapters.Callback || m.Action != "yes" {
		t.Errorf("button: %+v", m)
	}
	if len(d.messages) != 4 {
		t.Errorf("%d messages, want 4, the mention once", len(d.messages))
	}
	direct := s.Replies(steve.Chat())
	if len(direct) != 2 || direct[0].Text != "is <b> & so" || direct[0].Private || direct[1].Text != "linked" ||
		!direct[1].Private {
		t.Errorf("Steve reads %+v", direct)
	}
	if room := s.Replies("C1"); len(room) != 1 || room[0].Text != "hello room" {
		t.Errorf("the room reads %+v", room)
	}
}

func TestWebhook_RedeliveredUntilStored(t *testing.T) {
	s, d := newWebhookServer(t)
	d.failures = 3
	got, err := s.SendText(t.Context(), appID, steve, "hello")
	if err != nil || !got.Accepted() || len(got.Attempts) != 4 || len(d.messages) != 1 {
		t.Errorf("%+v, %v, stored %d, want the fourth attempt stored", got, err, len(d.messages))
	}
	d.failures = 1
	response, err := s.SendCommand(t.Context(), appID, steve, "", "/claim", "WDJBMJ")
	if err != nil || !strings.Contains(response.Text, "try again") || len(d.messages) != 1 {
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
		if m := d.lastMessage(); m.Sender.ID != "T0EXTERN1:"+steve.ID || m.UnprovenReason != "external" {
			t.Errorf("%s: %q, unproven %q, want the external user", name, m.Sender.ID, m.UnprovenReason)
		}
	}
}
