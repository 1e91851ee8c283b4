package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// startControl starts a control of pretend providers whose hooks all lead to app.
func startControl(t *testing.T, app http.Handler) (*simulator.Control, *httptest.Server) {
	t.Helper()
	hook := httptest.NewServer(app)
	t.Cleanup(hook.Close)
	tg, tw, sl := simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	t.Cleanup(tg.Close)
	t.Cleanup(tw.Close)
	sl.RetryScale = 0
	tg.AddBot("7:token", "demo_bot")
	api := httptest.NewServer(tg)
	t.Cleanup(api.Close)
	resp, err := http.PostForm(api.URL+"/bot7:token/setWebhook", url.Values{"url": {hook.URL}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	tw.AddAccount("AC1", "t")
	tw.AddNumber("AC1", "+12025550100")
	tw.SetWebhook("+12025550100", hook.URL, "")
	tw.SetWhatsAppURL("AC1", "+12025550101", hook.URL, "")
	sl.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", BotUserID: "UBOT", Token: "xoxb-1", SigningSecret: "s", EventsURL: hook.URL, CommandsURL: hook.URL})
	c := &simulator.Control{Telegram: tg, Bot: "demo_bot", Twilio: tw, SMSNumber: "+12025550100", WhatsAppNumber: "+12025550101", Slack: sl, AppID: "A1", Team: "T1"}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, server
}

func TestControl_SendOnEveryChannel(t *testing.T) {
	got := make(chan string, 1)
	c, _ := startControl(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
		if strings.Contains(string(body), "command=") {
			_, _ = io.WriteString(w, "one moment")
		}
	}))
	for _, tt := range []struct {
		say  simulator.SendRequest
		want []string // of the hook's body
		at   string   // once
		chat string
	}{
		{simulator.SendRequest{Channel: adapters.Telegram, Sender: "12345", Name: "Steve", Text: "hi"}, []string{`"id":12345`, `"first_name":"Steve"`, `"text":"hi"`}, "", "12345"},
		{simulator.SendRequest{Channel: adapters.SMS, Sender: "+12025550123", Text: "hi"}, []string{"From=%2B12025550123", "To=%2B12025550100", "Body=hi"}, "", "+12025550123"},
		{simulator.SendRequest{Channel: adapters.WhatsApp, Sender: "+12025550123", Name: "Matt", Text: "hi"}, []string{"From=whatsapp%3A%2B12025550123", "ProfileName=Matt"}, "", "whatsapp:+12025550123"},
		{simulator.SendRequest{Channel: adapters.Slack, Sender: "U2", Text: "hi"}, []string{`"user":"U2"`, `"text":"hi"`}, "", "T1:U2"},
		{simulator.SendRequest{Channel: adapters.Slack, Sender: "T1:U2", Text: "/claim  WDJ-BMJ"}, []string{"command=%2Fclaim", "text=WDJ-BMJ", "user_id=U2"}, "one moment", "T1:U2"},
	} {
		at, err := c.Send(t.Context(), tt.say)
		if err != nil || at != tt.at {
			t.Errorf("%+v: %q, %v", tt.say, at, err)
			continue
		}
		body := <-got
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%+v: %s does not come in %s", tt.say, want, body)
			}
		}
		if transcript, chat, err := c.Conversation(tt.say.Channel, tt.say.Sender); err != nil || chat != tt.chat || len(transcript.Lines(chat)) == 0 {
			t.Errorf("%+v: the chat is %q, %v", tt.say, chat, err)
		}
	}
}

func TestControl_SendErrors(t *testing.T) {
	c, _ := startControl(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	for _, s := range []simulator.SendRequest{
		{Channel: adapters.Telegram, Sender: "12345", Text: "hi"},
		{Channel: adapters.SMS, Sender: "+12025550123", Text: "hi"},
		{Channel: adapters.Slack, Sender: "U2", Text: "hi"},
		{Channel: adapters.Slack, Sender: "U2", Text: "/claim"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := c.Send(ctx, s); !errors.Is(err, simulator.ErrNotAccepted) {
			t.Errorf("%+v: %v", s, err)
		}
		cancel()
	}
	for _, s := range []simulator.SendRequest{
		{Channel: adapters.Telegram, Sender: "steve", Text: "hi"},
		{Channel: adapters.Telegram, Sender: "012", Text: "hi"},
		{Channel: adapters.Telegram, Sender: "-12", Text: "hi"},
		{Channel: adapters.SMS, Sender: "0170 123", Text: "hi"},
		{Channel: adapters.WhatsApp, Sender: "whatsapp:+12025550123", Text: "hi"},
		{Channel: adapters.Slack, Sender: "steve", Text: "hi"},
		{Channel: adapters.Slack, Sender: "X1:U1", Text: "hi"},
		{Channel: "email", Sender: "steve", Text: "hi"},
		{Channel: adapters.Telegram, Sender: "12345", Text: " "},
	} {
		if _, err := c.Send(t.Context(), s); !errors.Is(err, simulator.ErrUnknownSender) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestControl_HTTP(t *testing.T) {
	c, server := startControl(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		name, method, path, kind, host, body string
		status                               int
		want                                 string
	}{
		{"Lobby", "GET", "/", "", "", "", 200, `"telegram":"@demo_bot"`},
		{"Say", "POST", "/say", "application/json", "", `{"channel":"telegram","as":"12345","text":"hi"}`, 202, `{}`},
		{"Transcript", "GET", "/transcript?channel=telegram&as=12345", "", "", "", 200, `"from":"person"`},
		{"NothingAfter", "GET", "/transcript?channel=telegram&as=12345&after=7", "", "", "", 200, `{"lines":[],"next":1}`},
		{"Nobody", "POST", "/say", "application/json", "", `{"channel":"telegram","as":"x","text":"hi"}`, 400, `"error"`},
		{"NotJSON", "POST", "/say", "application/json", "", `channel`, 400, `"error"`},
		{"FormOfAWebPage", "POST", "/say", "text/plain", "", `{"channel":"telegram","as":"12345","text":"hi"}`, 415, `"error"`},
		{"NameThatLeadsHere", "GET", "/", "", "web.example", "", 403, `"error"`},
		{"Localhost", "GET", "/", "", "localhost:8089", "", 200, `"addresses"`},
		{"IPv6", "GET", "/", "", "[::1]:8089", "", 200, `"addresses"`},
		{"NotThere", "GET", "/else", "", "", "", 404, `"error"`},
		{"TranscriptOfNobody", "GET", "/transcript?channel=sms&as=1", "", "", "", 400, `"error"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", tt.kind)
			r.Host = tt.host
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
	if n := len(c.Telegram.Lines("12345")); n != 1 {
		t.Errorf("%d lines were typed", n)
	}
}

// TestControl_TranscriptWaits asks before anything is said, and is answered by what
// is said then: by the bot, and by the provider.
func TestControl_TranscriptWaits(t *testing.T) {
	c, server := startControl(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(after string) <-chan simulator.TranscriptPage {
		talks := make(chan simulator.TranscriptPage, 1)
		go func() {
			var talk simulator.TranscriptPage
			if resp, err := http.Get(server.URL + "/transcript?channel=sms&as=%2B12025550123&wait=30&after=" + after); err == nil {
				_ = json.NewDecoder(resp.Body).Decode(&talk)
				_ = resp.Body.Close()
			}
			talks <- talk
		}()
		return talks
	}
	first := ask("0")
	c.Twilio.Add(simulator.Line{Chat: "+12025550199", Text: "for another"})
	c.Twilio.Add(simulator.Line{Chat: "+12025550123", Text: "hello"})
	if got := <-first; got.Next != 1 || len(got.Lines) != 1 || got.Lines[0].From != simulator.FromBot || got.Lines[0].Text != "hello" {
		t.Errorf("%+v", got)
	}
	second := ask("1")
	c.Twilio.Add(simulator.Line{Chat: "+12025550123", Sender: "twilio", Text: "stopped"})
	if got := <-second; got.Next != 2 || len(got.Lines) != 1 || got.Lines[0].From != simulator.FromProvider {
		t.Errorf("%+v", got)
	}
}
