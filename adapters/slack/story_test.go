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

// A desk stands behind the hooks: it keeps each message once and, while it is shut,
// none.
type desk struct {
	adapter *slack.Adapter
	mu      sync.Mutex
	shut    int // requests to turn away
	kept    []adapters.Message
	keys    map[string]bool
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := d.adapter.Receive(r, endpoint(), strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	in.Ack(w, d.keep(in.Messages))
}

func (d *desk) keep(ms []adapters.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut > 0 {
		d.shut--
		return errors.New("shut")
	}
	for _, m := range ms {
		if !d.keys[m.Key] {
			d.keys[m.Key] = true
			d.kept = append(d.kept, m)
		}
	}
	return nil
}

func (d *desk) last() adapters.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.kept) == 0 {
		return adapters.Message{}
	}
	return d.kept[len(d.kept)-1]
}

// open starts a pretend Slack whose app stands at a desk.
func open(t *testing.T) (*simulator.Slack, *desk) {
	t.Helper()
	s, adapter := pretend(t)
	adapter.Now = nil
	d := &desk{adapter: adapter, keys: map[string]bool{}}
	hooks := httptest.NewServer(d)
	t.Cleanup(hooks.Close)
	s.Scale = 0
	s.AddApp(simulator.App{
		AppID: appID, TeamID: team, BotUserID: botUser, Token: botToken, SigningSecret: secret,
		EventsURL: hooks.URL + "/events", CommandsURL: hooks.URL + "/commands", InteractivityURL: hooks.URL + "/interactivity",
	})
	return s, d
}

func TestConversationWithSlack(t *testing.T) {
	s, d := open(t)
	ctx := t.Context()
	if err := s.Verify(ctx, appID); err != nil {
		t.Fatal(err)
	}
	answer := func(text string) {
		t.Helper()
		if _, err := d.adapter.Send(ctx, endpoint(), adapters.Reply{ID: "r-" + text, To: d.last().Sender.ID, Place: d.last().Place, Text: text}); err != nil {
			t.Fatal(err)
		}
	}

	if got, err := s.Message(ctx, appID, steve, "1 < 2 & <!channel>"); err != nil || !got.Taken() {
		t.Fatalf("%+v, %v", got, err)
	}
	if m := d.last(); m.Sender.ID != steve.Chat() || m.Text != "1 < 2 & <!channel>" || m.Place.Group || m.Unproven != "" {
		t.Errorf("direct message: %+v", m)
	}
	answer("is <b> & so")

	if got, err := s.Slash(ctx, appID, steve, "C1", "/claim", "WDJBMJ"); err != nil || got.Text != "One moment …" {
		t.Errorf("%+v, %v", got, err)
	}
	if m := d.last(); m.Command == nil || *m.Command != (adapters.Command{Name: "claim", Args: "WDJBMJ"}) || m.Place.Group || m.Unproven != "" {
		t.Errorf("slash command: %+v", m)
	}
	answer("linked")

	message, mention, err := s.Mention(ctx, appID, steve, "C1", "hello")
	if err != nil || !message.Taken() || !mention.Taken() {
		t.Fatalf("%+v, %+v, %v", message, mention, err)
	}
	if m := d.last(); m.Text != "hello" || !m.Place.Group || m.Place.Thread != m.ProviderID {
		t.Errorf("mention: %+v", m)
	}
	answer("hello room")

	if got, err := s.Press(ctx, appID, steve, "", "yes"); err != nil || got.Status != 200 {
		t.Errorf("%+v, %v", got, err)
	}
	if m := d.last(); m.Kind != adapters.Callback || m.Action != "yes" {
		t.Errorf("button: %+v", m)
	}
	if len(d.kept) != 4 {
		t.Errorf("%d messages; want 4, the mention once", len(d.kept))
	}
	direct := s.Answers(steve.Chat())
	if len(direct) != 2 || direct[0].Text != "is <b> & so" || direct[0].Private || direct[1].Text != "linked" || !direct[1].Private {
		t.Errorf("Steve reads %+v", direct)
	}
	if room := s.Answers("C1"); len(room) != 1 || room[0].Text != "hello room" {
		t.Errorf("the room reads %+v", room)
	}
}

func TestSlackDeliversAgainUntilKept(t *testing.T) {
	s, d := open(t)
	d.shut = 3
	got, err := s.Message(t.Context(), appID, steve, "hello")
	if err != nil || !got.Taken() || len(got.Attempts) != 4 || len(d.kept) != 1 {
		t.Errorf("%+v, %v, kept %d; want the fourth attempt kept", got, err, len(d.kept))
	}
	d.shut = 1
	if got, err := s.Slash(t.Context(), appID, steve, "", "/claim", "WDJBMJ"); err != nil || !strings.Contains(got.Text, "try again") || len(d.kept) != 1 {
		t.Errorf("%+v, %v; want a word to try again", got, err)
	}
}

func TestStrangersFromOtherWorkspaces(t *testing.T) {
	s, d := open(t)
	stranger := simulator.SlackUser{Team: "T0EXTERN1", ID: steve.ID, Name: "Steve"}
	said := map[string]func(ctx context.Context) error{
		"Message": func(ctx context.Context) error {
			_, err := s.Message(ctx, appID, stranger, "claim WDJBMJ")
			return err
		},
		"Mention": func(ctx context.Context) error {
			_, _, err := s.Mention(ctx, appID, stranger, "C1", "claim WDJBMJ")
			return err
		},
		"Slash": func(ctx context.Context) error {
			_, err := s.Slash(ctx, appID, stranger, "C1", "/claim", "WDJBMJ")
			return err
		},
		"Press": func(ctx context.Context) error {
			_, err := s.Press(ctx, appID, stranger, "C1", "yes")
			return err
		},
	}
	for name, say := range said {
		if err := say(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := d.last(); m.Sender.ID != "T0EXTERN1:"+steve.ID || m.Unproven != "external" {
			t.Errorf("%s: %q, unproven %q; want the stranger, external", name, m.Sender.ID, m.Unproven)
		}
	}
}
