package telegram_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// TestStatus covers what Telegram can report about a bot, for both modes.
func TestStatus(t *testing.T) { //nolint:funlen // a table of cases
	const foreign = "https://other.example/secret-path/bot"
	now := time.Now().Truncate(time.Second)
	recently, longAgo := now.Add(-time.Minute).Unix(), now.Add(-30*time.Minute).Unix()
	info := func(fields string) func(*simulator.Telegram) {
		return func(s *simulator.Telegram) {
			s.Arm("getWebhookInfo", simulator.Fault{Status: 200, Body: `{"ok":true,"result":{"url":"` + webhookURL + `",` +
				strings.ReplaceAll(fields, "RECENTLY", strconv.FormatInt(recently, 10)) + `}}`})
		}
	}
	for _, tt := range []struct {
		name      string
		mode      adapters.Mode
		change    func(*simulator.Telegram)
		lastEvent time.Time
		settings  map[string]string
		fault     string // part of it; "" for none
		warning   string
		repair    time.Duration
	}{
		{name: "webhook as set up"},
		{
			name: "webhook of another program", change: func(s *simulator.Telegram) { s.SetWebhook(botUsername, foreign, "x") },
			fault: "https://other.example/…", repair: adapters.RepairForeign,
		},
		{
			name: "webhook deleted", change: func(s *simulator.Telegram) { s.SetWebhook(botUsername, "", "") },
			fault: "no webhook", repair: adapters.RepairMissing,
		},
		{
			name: "earlier public URL", change: func(s *simulator.Telegram) {
				s.SetWebhook(botUsername, strings.Replace(webhookURL, "gateway", "old", 1), "x")
			},
			fault: "https://old.example/…", repair: adapters.RepairOwn,
		},
		{
			name:   "updates not delivered",
			change: info(`"pending_update_count":3,"last_error_date":RECENTLY,"last_error_message":"SSL error {self-signed}"`),
			fault:  "cannot deliver 3 updates: SSL error {self-signed}",
		},
		{
			name: "updates rejected with the secret of another program",
			change: info(`"pending_update_count":1,"last_error_date":RECENTLY,` +
				`"last_error_message":"Wrong response from the webhook: 403 Forbidden"`),
			fault: "403 Forbidden", repair: adapters.RepairMissing,
		},
		{
			name:      "delivered since the error",
			change:    info(`"pending_update_count":1,"last_error_date":RECENTLY,"last_error_message":"Connection timed out"`),
			lastEvent: time.Now(), warning: "Connection timed out",
		},
		{
			name:    "nothing waits after an error",
			change:  info(`"pending_update_count":0,"last_error_date":RECENTLY,"last_error_message":"Connection timed out"`),
			warning: "Connection timed out",
		},
		{
			name:   "an error of last week",
			change: info(`"pending_update_count":1,"last_error_date":1700000000,"last_error_message":"Connection timed out"`),
		},
		{
			name: "an error of half an hour ago",
			change: info(fmt.Sprintf(`"pending_update_count":1,"last_error_date":%d,"last_error_message":"Connection timed out"`,
				longAgo)),
		},
		{name: "many updates wait", change: info(`"pending_update_count":100`), warning: "100 updates wait"},
		{name: "some updates wait", change: info(`"pending_update_count":99`)},
		{
			name:    "some kinds of updates are not sent",
			change:  info(`"pending_update_count":0,"allowed_updates":["message"]`),
			warning: "not send all kinds", repair: adapters.RepairMissing,
		},
		{
			name: "menu of commands not set", settings: map[string]string{adapters.Warning: "no menu"},
			warning: "no menu", repair: time.Hour,
		},
		{name: "polling", mode: adapters.Polling, change: func(s *simulator.Telegram) { s.SetWebhook(botUsername, "", "") }},
		{
			name: "polling with the webhook of another program", mode: adapters.Polling,
			change: func(s *simulator.Telegram) { s.SetWebhook(botUsername, foreign, "x") },
			fault:  "https://other.example/…", repair: adapters.RepairForeign,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, a := newSimulator(t)
			a.Now = func() time.Time { return now }
			ep := webhookEndpoint()
			if tt.mode != "" {
				ep.Mode = tt.mode
			}
			if tt.settings != nil {
				ep.Settings = tt.settings
			}
			server.SetWebhook(botUsername, webhookURL, secret)
			if tt.change != nil {
				tt.change(server)
			}
			got, err := a.Status(t.Context(), ep, tt.lastEvent)
			warnings := strings.Join(got.Warnings, "\n")
			if err != nil || (got.Fault == "") != (tt.fault == "") || !strings.Contains(got.Fault, tt.fault) ||
				(warnings == "") != (tt.warning == "") || !strings.Contains(warnings, tt.warning) ||
				got.RepairInterval != tt.repair {
				t.Errorf("Status() = %+v, %v, want fault %q, warning %q, repair %v", got, err, tt.fault, tt.warning, tt.repair)
			}
			if strings.Contains(got.Fault, "secret-path") {
				t.Errorf("Status() shows the path of another program: %q", got.Fault)
			}
		})
	}
}

func TestStatus_Errors(t *testing.T) {
	server, a := newSimulator(t)
	server.Arm("getWebhookInfo", botAPIError(429, "Too Many Requests: retry after 600", `{"retry_after":600}`))
	_, err := a.Status(t.Context(), webhookEndpoint(), time.Time{})
	if se := asSetupError(t, err); !se.Retryable() || se.RetryAfter != 600*time.Second {
		t.Errorf("Status() while throttled = %v after %v, want a retry after 600 s", err, se.RetryAfter)
	}
	server.Rename(botUsername, "renamed_bot")
	got, err := a.Status(t.Context(), webhookEndpoint(), time.Time{})
	if err != nil || got.Settings[adapters.BotUsername] != "renamed_bot" {
		t.Errorf("Status() of a renamed bot = %v, %v, want its new name", got.Settings, err)
	}
	other, set := webhookEndpoint(), webhookEndpoint()
	other.Address, set.Address = "424243", ""
	_, err = a.Status(t.Context(), other, time.Time{})
	if se := asSetupError(t, err); se.Reason != adapters.BadSecret || se.Field != adapters.BotToken {
		t.Errorf("Status() with the token of another bot = %v, want BadSecret", err)
	}
	if _, err = a.Status(t.Context(), set, time.Time{}); err != nil {
		t.Errorf("Status() before the bot is known = %v, want nil", err)
	}
	server.RevokeToken("renamed_bot", "424242:"+strings.Repeat("b", 35))
	_, err = a.Status(t.Context(), webhookEndpoint(), time.Time{})
	if se := asSetupError(t, err); se.Retryable() || !strings.Contains(se.Message, "Unauthorized") {
		t.Errorf("Status() with a revoked token = %v, want Telegram's words and no retry", err)
	}
}

// TestConnect_CommandsFail checks that a bot works without a menu of commands.
func TestConnect_CommandsFail(t *testing.T) {
	for _, fault := range []simulator.Fault{
		botAPIError(429, "Too Many Requests: retry after 600", `{"retry_after":600}`),
		botAPIError(400, "Bad Request: BOT_COMMAND_INVALID", ""),
	} {
		server, a := newSimulator(t)
		server.Arm("setMyCommands", fault)
		se := asSetupError(t, a.Connect(t.Context(), webhookEndpoint()))
		if url, _ := server.Webhook(botUsername); !se.Optional || url != webhookURL || !strings.Contains(se.Message, "menu") {
			t.Errorf("Connect() = %v with webhook %q, want an optional error and the webhook", se, url)
		}
	}
}
