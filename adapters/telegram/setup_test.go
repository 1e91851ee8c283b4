package telegram_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

const webhookURL = "https://gateway.example/hooks/telegram/i1"

func asSetupError(t *testing.T, err error) *adapters.SetupError {
	t.Helper()
	var se *adapters.SetupError
	if !errors.As(err, &se) {
		t.Fatalf("%v (%T); want a *SetupError", err, err)
	}
	return se
}

func webhookEndpoint() adapters.Endpoint {
	ep := endpoint()
	ep.WebhookURL = webhookURL
	return ep
}

func TestCheck_SetsBotDetails(t *testing.T) {
	_, a := newSimulator(t)
	ep := endpoint()
	ep.Address, ep.Settings = "", map[string]string{adapters.Warning: "kept"}
	got, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	if got.Address != "424242" || got.Settings[adapters.BotUsername] != botUsername ||
		got.Settings[adapters.Warning] != "kept" {
		t.Errorf("address %q, settings %v", got.Address, got.Settings)
	}
	if ep.Settings[adapters.BotUsername] != "" {
		t.Error("the caller's settings were changed")
	}
}

func TestCheck_MalformedToken(t *testing.T) {
	server, a := newSimulator(t)
	for name, bad := range map[string]string{
		"empty": "", "no colon": strings.Repeat("a", 46), "no ID": ":" + strings.Repeat("a", 35),
		"letters": "bot:" + strings.Repeat("a", 35), "short": "424242:abc", "long": "424242:" + strings.Repeat("a", 100),
		"space": token[:20] + " " + token[20:], "path": "424242:" + strings.Repeat("a", 35) + "/../x",
		"secret of 29": "424242:" + strings.Repeat("a", 29), "101 bytes": "424242:" + strings.Repeat("a", 94),
		"signs in the ID": "/1:" + strings.Repeat("a", 35), "signs": "1:" + strings.Repeat("a", 35) + "/",
		"sign after 9": "1:" + strings.Repeat("a", 35) + ":", "sign before A": "1:" + strings.Repeat("a", 35) + "@",
		"newline": token + "\n", "umlaut": "424242:" + strings.Repeat("ä", 35), "username": "@hydragate_bot",
	} {
		t.Run(name, func(t *testing.T) {
			ep := endpoint()
			ep.Credentials = adapters.Credentials{adapters.BotToken: bad}
			_, err := a.Check(t.Context(), ep)
			se := asSetupError(t, err)
			if se.Reason != adapters.Refused || se.Field != adapters.BotToken || se.Retryable() ||
				bad != "" && strings.Contains(err.Error(), bad) {
				t.Errorf("Check = %v in field %q, want Refused in the token field", err, se.Field)
			}
		})
	}
	if calls := server.Calls(botUsername, "getMe"); len(calls) != 0 {
		t.Errorf("%d calls, want none", len(calls))
	}
}

func TestCheck_TokenForms(t *testing.T) {
	for _, good := range []string{
		"0123456789:" + strings.Repeat("a", 30), "424242:" + strings.Repeat("a", 93),
		"424242:09azAZ_-" + strings.Repeat("a", 27),
	} {
		server, a := newSimulator(t)
		server.RevokeToken(botUsername, good)
		ep := endpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: good}
		if _, err := a.Check(t.Context(), ep); err != nil {
			t.Errorf("Check of %q = %v, want nil", good, err)
		}
	}
}

func TestCheck_Faults(t *testing.T) {
	for name, c := range map[string]struct {
		fault  simulator.Fault
		reason adapters.Reason
		field  string
	}{
		"unknown token": {
			botAPIError(401, "Unauthorized", ""), adapters.BadSecret, adapters.BotToken,
		},
		"not a bot": {
			simulator.Fault{Status: 200, Body: `{"ok":true,"result":{"id":7,"is_bot":false,"first_name":"Steve"}}`},
			adapters.Refused, adapters.BotToken,
		},
		"throttled": {
			botAPIError(429, "Too Many Requests: retry after 1", `{"retry_after":1}`), adapters.Throttled, "",
		},
		"down":    {simulator.Fault{Status: 502, Body: "<html>"}, adapters.Unreachable, ""},
		"cut off": {simulator.Fault{Cut: true}, adapters.Unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server, a := newSimulator(t)
			server.Arm("getMe", c.fault)
			_, err := a.Check(t.Context(), endpoint())
			if se := asSetupError(t, err); se.Reason != c.reason || se.Field != c.field || se.Message == "" {
				t.Errorf("%v in field %q; want %s in %q", err, se.Field, c.reason, c.field)
			}
		})
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	server, a := newSimulator(t)
	ep := webhookEndpoint()
	for range 2 {
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		if url, got := server.Webhook(botUsername); url != webhookURL || got != secret {
			t.Fatalf("webhook %q with the right secret: %v", url, got == secret)
		}
	}
	for _, call := range server.Calls(botUsername, "setWebhook") {
		if call["drop_pending_updates"] != "" || call["max_connections"] != "40" ||
			call["allowed_updates"] != `["message","edited_message","callback_query","my_chat_member"]` {
			t.Errorf("setWebhook with %v", call)
		}
	}
	var commands []struct{ Command string }
	err := json.Unmarshal(server.Commands(botUsername), &commands)
	if err != nil || len(commands) != 5 || commands[0].Command != "claim" {
		t.Errorf("commands %s", server.Commands(botUsername))
	}
	if scope := server.Calls(botUsername, "setMyCommands")[0]["scope"]; scope != `{"type":"all_private_chats"}` {
		t.Errorf("commands for %s", scope)
	}

	elsewhere := ep
	elsewhere.WebhookURL = "https://other.example/hooks/telegram/i1"
	if err := a.Disconnect(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	if url, _ := server.Webhook(botUsername); url != webhookURL {
		t.Fatalf("the webhook of another application was removed: %q", url)
	}
	for range 2 {
		if err := a.Disconnect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		if url, _ := server.Webhook(botUsername); url != "" {
			t.Errorf("webhook = %q, want none", url)
		}
	}
	if err := a.Connect(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	server.Arm("deleteWebhook", botAPIError(429, "Too Many Requests: retry after 1", `{"retry_after":1}`))
	if se := asSetupError(t, a.Disconnect(t.Context(), ep)); !se.Retryable() {
		t.Errorf("Disconnect while throttled = %v, want a retryable error", se)
	}
}

// TestConnect_Polling checks that switching to polling keeps pending updates.
func TestConnect_Polling(t *testing.T) {
	server, a := newSimulator(t)
	server.WebhookClient.Transport = handlerTransport{unavailableHandler{}}
	ep := webhookEndpoint()
	if err := a.Connect(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	sendTexts(server, "are you there?")
	ep.Mode = adapters.Polling
	for range 2 {
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
	}
	if url, _ := server.Webhook(botUsername); url != "" || len(server.PendingUpdates(botUsername)) != 1 {
		t.Errorf("webhook %q, Telegram holds %v; want none and one update", url, server.PendingUpdates(botUsername))
	}
}

func TestConnect_Faults(t *testing.T) {
	t.Run("no secret", func(t *testing.T) {
		server, a := newSimulator(t)
		ep := webhookEndpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: token}
		se := asSetupError(t, a.Connect(t.Context(), ep))
		if se.Reason != adapters.Refused || len(server.Calls(botUsername, "setWebhook")) != 0 {
			t.Errorf("Connect = %v, want Refused without a call", se)
		}
	})
	t.Run("reason of Telegram", func(t *testing.T) {
		server, a := newSimulator(t)
		server.Arm("setWebhook", botAPIError(400,
			"Bad Request: bad webhook: Failed to resolve host; token "+token+", secret "+secret, ""))
		se := asSetupError(t, a.Connect(t.Context(), webhookEndpoint()))
		if se.Reason != adapters.Refused ||
			!strings.HasPrefix(se.Message, "Bad Request: bad webhook: Failed to resolve host") {
			t.Errorf("%v; want Telegram's reason", se)
		}
		if strings.Contains(se.Error()+se.Err.Error(), token) || strings.Contains(se.Error()+se.Err.Error(), secret) {
			t.Errorf("the error contains a secret: %v", se)
		}
	})
	t.Run("throttled", func(t *testing.T) {
		server, a := newSimulator(t)
		server.Arm("setWebhook", botAPIError(429, "Too Many Requests: retry after 1", `{"retry_after":1}`))
		if se := asSetupError(t, a.Connect(t.Context(), webhookEndpoint())); !se.Retryable() {
			t.Errorf("%v; want a retryable error", se)
		}
	})
}
