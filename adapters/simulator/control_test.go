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

// startControl starts a Control of simulated providers whose webhooks are all app.
func startControl(t *testing.T, app http.Handler) (*simulator.Control, *httptest.Server) {
	t.Helper()
	webhook := httptest.NewServer(app)
	t.Cleanup(webhook.Close)
	tg, tw, sl := simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	t.Cleanup(tg.Close)
	t.Cleanup(tw.Close)
	sl.RetryScale = 0
	tg.AddBot("7:token", "demo_bot")
	api := httptest.NewServer(tg)
	t.Cleanup(api.Close)
	resp, err := http.PostForm(api.URL+"/bot7:token/setWebhook", url.Values{"url": {webhook.URL}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	tw.AddAccount("AC1", "t")
	tw.AddNumber("AC1", "+12025550100")
	tw.SetWebhook("+12025550100", webhook.URL, "")
	tw.SetWhatsAppURL("AC1", "+12025550101", webhook.URL, "")
	sl.AddApp(simulator.SlackApp{
		AppID: "A1", TeamID: "T1", BotUserID: "UBOT", Token: "xoxb-1", SigningSecret: "s",
		EventsURL: webhook.URL, CommandsURL: webhook.URL, InteractivityURL: webhook.URL,
	})
	c := &simulator.Control{
		Telegram: tg, Bot: "demo_bot", Twilio: tw, SMSNumber: "+12025550100", WhatsAppNumber: "+12025550101",
		Slack: sl, AppID: "A1", Team: "T1",
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, server
}

// TestControl_SendPayload checks that messages and interactions of any kind can be sent.
func TestControl_SendPayload(t *testing.T) {
	requests := make(chan string, 1)
	c, _ := startControl(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text, _ := url.QueryUnescape(string(body))
		requests <- text
	}))
	for payload, want := range map[string][]string{
		`{"type":"message","text":"","blocks":[{"type":"markdown","text":"hi"}]}`: {
			`"blocks":[{"text":"hi","type":"markdown"}]`, `"user":"U2"`, `"channel_type":"im"`,
		},
		`{"type":"view_submission","view":{"callback_id":"order"}}`: {
			`"callback_id":"order"`, `"team_id":"T1"`, `"id":"U2"`, `"api_app_id":"A1"`,
		},
		`{"type":"block_actions","user":{"id":"U2","team_id":"E1"},"actions":[{"selected_date":"2026-12-24"}]}`: {
			`"selected_date":"2026-12-24"`, `"team_id":"E1"`, `"response_url":`,
		},
	} {
		request := simulator.SendRequest{Channel: adapters.Slack, Sender: "U2", Payload: json.RawMessage(payload)}
		if _, err := c.Send(t.Context(), request); err != nil {
			t.Fatalf("Send(%s) = %v, want nil", payload, err)
		}
		body := <-requests
		for _, part := range want {
			if !strings.Contains(body, part) {
				t.Errorf("body = %s, want %s in it", body, part)
			}
		}
	}
	for _, request := range []simulator.SendRequest{
		{Channel: adapters.SMS, Sender: "+12025550123", Payload: json.RawMessage(`{"NumMedia":1}`)},
		{Channel: adapters.Telegram, Sender: "1", Payload: json.RawMessage(`{"Body":"x"}`)},
		{Channel: adapters.Slack, Sender: "U2", Payload: json.RawMessage(`{"text":"no type"}`)},
		{Channel: adapters.Slack, Sender: "U2", Payload: json.RawMessage(`[]`)},
		{Channel: adapters.SMS, Sender: "+12025550123", Payload: json.RawMessage(`{"type":"message"}`)},
	} {
		if _, err := c.Send(t.Context(), request); !errors.Is(err, simulator.ErrUnknownSender) {
			t.Errorf("Send(%s) = %v, want ErrUnknownSender", request.Payload, err)
		}
	}
}

// TestControl_SendParameters checks that any message of SMS and WhatsApp can be sent as parameters of Twilio.
func TestControl_SendParameters(t *testing.T) {
	requests := make(chan url.Values, 1)
	c, _ := startControl(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err == nil {
			requests <- r.PostForm
		}
	}))
	for _, r := range []struct {
		channel adapters.Channel
		payload string
		want    map[string]string
	}{
		{adapters.SMS, `{"Body":"hi","MediaContentType0":"image/png","MediaContentType1":"text/x-vcard"}`, map[string]string{
			"From": "+12025550123", "Body": "hi", "NumMedia": "2", "MediaContentType1": "text/x-vcard",
		}},
		{adapters.SMS, `{"From":"messenger:2846137352","Body":"hi"}`, map[string]string{"From": "messenger:2846137352"}},
		{adapters.WhatsApp, `{"Latitude":"48.1","Longitude":"11.5","Label":"Home"}`, map[string]string{
			"From": "whatsapp:+12025550123", "Latitude": "48.1", "Label": "Home", "Body": "",
		}},
		{adapters.WhatsApp, `{"From":"whatsapp:US.111","ExternalUserId":"US.111","Body":"hi"}`, map[string]string{
			"From": "whatsapp:US.111", "ExternalUserId": "US.111",
		}},
	} {
		request := simulator.SendRequest{Channel: r.channel, Sender: "+12025550123", Payload: json.RawMessage(r.payload)}
		if _, err := c.Send(t.Context(), request); err != nil {
			t.Fatalf("Send(%s) = %v, want nil", r.payload, err)
		}
		form := <-requests
		for name, want := range r.want {
			if got := form.Get(name); got != want {
				t.Errorf("%s of %s = %q, want %q", name, r.payload, got, want)
			}
		}
	}
}

func TestControl_SendOnEveryChannel(t *testing.T) {
	requests := make(chan string, 1)
	c, _ := startControl(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- string(body)
		if strings.Contains(string(body), "command=") {
			_, _ = io.WriteString(w, "one moment")
		}
	}))
	for name, tt := range map[string]struct {
		request   simulator.SendRequest
		wantBody  []string // parts of the webhook's body
		wantReply string
		wantChat  string
	}{
		"Telegram": {
			simulator.SendRequest{Channel: adapters.Telegram, Sender: "12345", Name: "Steve", Text: "hi"},
			[]string{`"id":12345`, `"first_name":"Steve"`, `"text":"hi"`},
			"", "12345",
		},
		"SMS": {
			simulator.SendRequest{Channel: adapters.SMS, Sender: "+12025550123", Text: "hi"},
			[]string{"From=%2B12025550123", "To=%2B12025550100", "Body=hi"},
			"", "+12025550123",
		},
		"WhatsApp": {
			simulator.SendRequest{Channel: adapters.WhatsApp, Sender: "+12025550123", Name: "Matt", Text: "hi"},
			[]string{"From=whatsapp%3A%2B12025550123", "ProfileName=Matt"},
			"", "whatsapp:+12025550123",
		},
		"Slack": {
			simulator.SendRequest{Channel: adapters.Slack, Sender: "U2", Text: "hi"},
			[]string{`"user":"U2"`, `"text":"hi"`},
			"", "T1:U2",
		},
		"Slack command": {
			simulator.SendRequest{Channel: adapters.Slack, Sender: "T1:U2", Text: "/claim  WDJ-BMJ"},
			[]string{"command=%2Fclaim", "text=WDJ-BMJ", "user_id=U2"},
			"one moment", "T1:U2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := c.Send(t.Context(), tt.request)
			if err != nil || reply != tt.wantReply {
				t.Fatalf("Send(%+v) = %q, %v, want %q, nil", tt.request, reply, err, tt.wantReply)
			}
			body := <-requests
			for _, want := range tt.wantBody {
				if !strings.Contains(body, want) {
					t.Errorf("webhook body = %s, want it to contain %s", body, want)
				}
			}
			transcript, chat, err := c.Conversation(tt.request.Channel, tt.request.Sender)
			if err != nil || chat != tt.wantChat {
				t.Fatalf("Conversation = chat %q, %v, want %q, nil", chat, err, tt.wantChat)
			}
			if len(transcript.Lines(chat)) == 0 {
				t.Errorf("transcript of %q is empty", chat)
			}
		})
	}
}

func TestControl_SendErrors(t *testing.T) {
	c, _ := startControl(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	ending, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // Telegram retries until then
	defer cancel()
	for _, tt := range []struct {
		ctx     context.Context
		request simulator.SendRequest
	}{
		{ending, simulator.SendRequest{Channel: adapters.Telegram, Sender: "12345", Text: "hi"}},
		{t.Context(), simulator.SendRequest{Channel: adapters.SMS, Sender: "+12025550123", Text: "hi"}},
		{t.Context(), simulator.SendRequest{Channel: adapters.Slack, Sender: "U2", Text: "hi"}},
		{t.Context(), simulator.SendRequest{Channel: adapters.Slack, Sender: "U2", Text: "/claim"}},
	} {
		if _, err := c.Send(tt.ctx, tt.request); !errors.Is(err, simulator.ErrNotAccepted) {
			t.Errorf("Send(%+v) = %v, want ErrNotAccepted", tt.request, err)
		}
	}
	for _, request := range []simulator.SendRequest{
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
		if _, err := c.Send(t.Context(), request); !errors.Is(err, simulator.ErrUnknownSender) {
			t.Errorf("Send(%+v) = %v, want ErrUnknownSender", request, err)
		}
	}
}

func TestControl_HTTP(t *testing.T) {
	c, server := startControl(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const (
		jsonType   = "application/json"
		message    = `{"channel":"telegram","as":"12345","text":"hi"}`
		transcript = "/transcript?channel=telegram&as=12345"
	)
	for _, tt := range []struct { // in this order
		name, method, path, contentType, host, body string
		status                                      int
		want                                        string
	}{
		{"addresses", "GET", "/", "", "", "", 200, `"telegram":"@demo_bot"`},
		{"send", "POST", "/say", jsonType, "", message, 202, `{}`},
		{"transcript", "GET", transcript, "", "", "", 200, `"from":"person"`},
		{"no new lines", "GET", transcript + "&after=7", "", "", "", 200, `{"lines":[],"next":1}`},
		{"invalid sender", "POST", "/say", jsonType, "", strings.Replace(message, "12345", "x", 1), 400, `"error"`},
		{"invalid JSON", "POST", "/say", jsonType, "", `channel`, 400, `"error"`},
		{"form of a web page", "POST", "/say", "text/plain", "", message, 415, `"error"`},
		{"other host", "GET", "/", "", "web.example", "", 403, `"error"`},
		{"localhost", "GET", "/", "", "localhost:8089", "", 200, `"addresses"`},
		{"IPv6", "GET", "/", "", "[::1]:8089", "", 200, `"addresses"`},
		{"fault", "POST", "/fault", jsonType, "", `{"channel":"telegram","fault":"token_revoked"}`, 200, `"token_revoked"`},
		{"end of a fault", "POST", "/fault", jsonType, "", `{"channel":"telegram","fault":"slow","end":true}`, 200, `"end"`},
		{"unknown fault", "POST", "/fault", jsonType, "", `{"channel":"sms","fault":"missing_scope"}`, 400, "unknown fault"},
		{"unknown route", "GET", "/else", "", "", "", 404, `"error"`},
		{"transcript of invalid sender", "GET", "/transcript?channel=sms&as=1", "", "", "", 400, `"error"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", tt.contentType)
			r.Host = tt.host
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("response = %d %s, want %d with %s", resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
	if n := len(c.Telegram.Lines("12345")); n != 1 {
		t.Errorf("%d lines sent, want 1", n)
	}
}

// A request for the transcript waits for the next line of the chat, whether the bot or the provider
// sends it.
func TestControl_TranscriptWaits(t *testing.T) {
	c, server := startControl(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const path = "/transcript?channel=sms&as=%2B12025550123&wait=30&after="
	request := func(after string) <-chan simulator.TranscriptPage {
		pages := make(chan simulator.TranscriptPage, 1)
		go func() {
			var page simulator.TranscriptPage
			if resp, err := http.Get(server.URL + path + after); err == nil {
				_ = json.NewDecoder(resp.Body).Decode(&page)
				_ = resp.Body.Close()
			}
			pages <- page
		}()
		return pages
	}
	check := func(got simulator.TranscriptPage, wantNext int, wantFrom, wantText string) {
		t.Helper()
		if got.Next != wantNext || len(got.Lines) != 1 || got.Lines[0].From != wantFrom || got.Lines[0].Text != wantText {
			t.Errorf("transcript = %+v, want %q from %s and next %d", got, wantText, wantFrom, wantNext)
		}
	}
	first := request("0")
	c.Twilio.Add(simulator.Line{Chat: "+12025550199", Text: "in another chat"})
	c.Twilio.Add(simulator.Line{Chat: "+12025550123", Text: "hello"})
	check(<-first, 1, simulator.FromBot, "hello")
	second := request("1")
	c.Twilio.Add(simulator.Line{Chat: "+12025550123", Sender: "twilio", Text: "stopped"})
	check(<-second, 2, simulator.FromProvider, "stopped")
}

// TestControl_SendUpdate checks that updates of any kind can be sent on Telegram.
func TestControl_SendUpdate(t *testing.T) {
	bodies := make(chan string, 1)
	c, _ := startControl(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			bodies <- string(body)
		}
	}))
	for payload, want := range map[string][]string{
		`{"message":{"dice":{"value":4}}}`:                      {`"dice":{"value":4}`, `"id":7001,`, `"type":"private"`},
		`{"message":{"chat":{"id":-5,"type":"group"},"new":1}}`: {`"id":-5`, `"new":1`, `"first_name":"Steve"`},
		`{"edited_message":{"message_id":3,"text":"x"}}`:        {`"edited_message":{`, `"message_id":3`, `"text":"x"`},
		`{"callback_query":{"data":"yes"}}`:                     {`"callback_query":{`, `"data":"yes"`, `"is_bot":true`},
	} {
		request := simulator.SendRequest{
			Channel: adapters.Telegram, Sender: "7001", Name: "Steve", Payload: json.RawMessage(payload),
		}
		if _, err := c.Send(t.Context(), request); err != nil {
			t.Fatalf("Send(%s) = %v, want nil", payload, err)
		}
		body := <-bodies
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("update of %s = %s, want %s in it", payload, body, w)
			}
		}
	}
}
