package slack_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

func TestCheck_Workspace(t *testing.T) {
	_, a := newSimulator(t)
	ep := endpoint()
	ep.Address, ep.Settings = "", map[string]string{"kept": "yes"}
	got, err := a.Check(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"kept":             "yes",
		adapters.TeamName:  "Example",
		adapters.BotUserID: botUserID,
		adapters.BotID:     "B0LAN0Z90",
		adapters.AppID:     appID,
	}
	if got.Address != teamID || !maps.Equal(got.Settings, want) {
		t.Errorf("%s %v, want %s %v", got.Address, got.Settings, teamID, want)
	}
	if len(ep.Settings) != 1 {
		t.Errorf("the settings of the caller changed: %v", ep.Settings)
	}
}

func TestCheck_MissingScope(t *testing.T) {
	s, a := newSimulator(t)
	s.Arm("bots.info", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"missing_scope","needed":"users:read"}`})
	got, err := a.Check(t.Context(), endpoint())
	if err != nil || got.Settings[adapters.AppID] != "" || got.Address != teamID {
		t.Errorf("%v, %v, want the workspace without the app", got.Settings, err)
	}
}

// TestCheck_RotatingToken checks that the error of a token that expires says what to do.
func TestCheck_RotatingToken(t *testing.T) {
	_, a := newSimulator(t)
	for token, rotating := range map[string]bool{
		"xoxe.xoxb-1-MS0yLTIxNTcxNTE1NjQ": true, "xoxe.xoxp-1-MS0yLTIxNTcxNTE1NjQ": true,
		"xoxe-1-MS0yLTIxNTcxNTE1NjQtMTIz": true, "xoxp-2157151564-8047104812": false, "xoxeb-2157151564": false,
	} {
		ep := endpoint()
		ep.Credentials[adapters.BotToken] = token
		_, err := a.Check(t.Context(), ep)
		var se *adapters.SetupError
		if !errors.As(err, &se) || se.Field != adapters.BotToken || se.Reason != adapters.Refused ||
			strings.Contains(se.Message, "urn off token rotation") != rotating || strings.Contains(se.Message, token) {
			t.Errorf("Check(%.9s…) = %v, want advice about rotation: %v", token, err, rotating)
		}
	}
}

func TestCheck_Errors(t *testing.T) {
	reports := func(method, code string) func(*simulator.Slack, *adapters.Endpoint) {
		return func(s *simulator.Slack, _ *adapters.Endpoint) {
			s.Arm(method, simulator.Fault{Status: 200, Body: `{"ok":false,"error":"` + code + `"}`})
		}
	}
	status := func(method string, code int) func(*simulator.Slack, *adapters.Endpoint) {
		return func(s *simulator.Slack, _ *adapters.Endpoint) { s.Arm(method, simulator.Fault{Status: code}) }
	}
	credential := func(key, value string) func(*simulator.Slack, *adapters.Endpoint) {
		return func(_ *simulator.Slack, ep *adapters.Endpoint) { ep.Credentials[key] = value }
	}
	socketMode := func(change func(*simulator.Slack, *adapters.Endpoint)) func(*simulator.Slack, *adapters.Endpoint) {
		return func(s *simulator.Slack, ep *adapters.Endpoint) {
			*ep = socketEndpoint()
			change(s, ep)
		}
	}
	for name, c := range map[string]struct {
		change func(*simulator.Slack, *adapters.Endpoint)
		reason adapters.Reason
		field  string
		again  bool
	}{
		"no token": {credential(adapters.BotToken, ""), adapters.Refused, adapters.BotToken, false},
		"user token": {
			credential(adapters.BotToken, "xoxp-2157151564-8047104812"), adapters.Refused, adapters.BotToken, false,
		},
		"token with line": {credential(adapters.BotToken, botToken+"\n"), adapters.Refused, adapters.BotToken, false},
		"no secret":       {credential(adapters.SigningSecret, ""), adapters.Refused, adapters.SigningSecret, false},
		"secret with gap": {
			credential(adapters.SigningSecret, "8f742231b10e8888 abcd99d0e1f285a5"), adapters.Refused, adapters.SigningSecret,
			false,
		},
		"no app token":   {withSocketMode(""), adapters.Refused, adapters.AppToken, false},
		"bots app token": {withSocketMode(botToken), adapters.Refused, adapters.AppToken, false},
		"app token line": {withSocketMode(appToken + "\n"), adapters.Refused, adapters.AppToken, false},
		"other apps": {
			withSocketMode("xapp-1-A0OTHER001-2157151564-abc"), adapters.Refused, adapters.AppToken, false,
		},
		"unknown app": {
			withSocketMode("xapp-1-A0KRD7HC3-2157151564-unknown"), adapters.BadSecret, adapters.AppToken, false,
		},
		"unknown app token kind": {withSocketMode("xapp-of-another-kind"), adapters.BadSecret, adapters.AppToken, false},
		"no connections": {
			socketMode(reports("apps.connections.open", "missing_scope")), adapters.BadSecret, adapters.AppToken, false,
		},
		"sockets off": {
			socketMode(reports("apps.connections.open", "access_denied")), adapters.Refused, adapters.AppToken, false,
		},
		"Socket Mode unavailable": {socketMode(status("apps.connections.open", 503)), adapters.Unreachable, "", true},
		"sockets later":           {socketMode(status("apps.connections.open", 429)), adapters.Throttled, "", true},
		"unknown token": {
			credential(adapters.BotToken, "xoxb-0000000000-0000000000-unknown"), adapters.BadSecret, adapters.BotToken, false,
		},
		"revoked":           {reports("auth.test", "token_revoked"), adapters.BadSecret, adapters.BotToken, false},
		"refused":           {reports("auth.test", "access_denied"), adapters.Refused, adapters.BotToken, false},
		"not a bot":         {withoutBotID, adapters.Refused, adapters.BotToken, false},
		"Slack unavailable": {status("auth.test", 503), adapters.Unreachable, "", true},
		"connection cut": {
			func(s *simulator.Slack, _ *adapters.Endpoint) { s.Arm("auth.test", simulator.Fault{Cut: true}) },
			adapters.Unreachable, "", true,
		},
		"throttled":              {status("auth.test", 429), adapters.Throttled, "", true},
		"app lookup unavailable": {status("bots.info", 503), adapters.Unreachable, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSimulator(t)
			ep := endpoint()
			c.change(s, &ep)
			_, err := a.Check(t.Context(), ep)
			var se *adapters.SetupError
			if !errors.As(err, &se) || se.Reason != c.reason || se.Field != c.field || se.Retryable() != c.again ||
				se.Message == "" {
				t.Fatalf("%#v, want %s of %q", err, c.reason, c.field)
			}
			for k, v := range ep.Credentials {
				if v != "" && (strings.Contains(err.Error(), v) || strings.Contains(errors.Unwrap(err).Error(), v)) {
					t.Errorf("the error contains %s", k)
				}
			}
		})
	}
}

// withSocketMode adds an app-level token to an endpoint.
func withSocketMode(token string) func(*simulator.Slack, *adapters.Endpoint) {
	return func(_ *simulator.Slack, ep *adapters.Endpoint) {
		ep.Mode, ep.Credentials[adapters.AppToken] = adapters.Socket, token
	}
}

func TestCheck_SocketMode(t *testing.T) {
	_, a := newSimulator(t)
	got, err := a.Check(t.Context(), socketEndpoint())
	if err != nil || got.Mode != adapters.Socket || got.Address != teamID {
		t.Errorf("%+v, %v", got, err)
	}
}

func withoutBotID(s *simulator.Slack, _ *adapters.Endpoint) {
	s.Arm(
		"auth.test",
		simulator.Fault{Status: 200, Body: `{"ok":true,"team_id":"T024BE7LH","user_id":"U061F7AUR","team":"Example"}`},
	)
}

func TestConnect(t *testing.T) {
	s, a := newSimulator(t)
	ep := endpoint()
	for range 2 {
		if err := a.Connect(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
	}
	ep.Address = "T0EXTERN1"
	var se *adapters.SetupError
	if err := a.Connect(t.Context(), ep); !errors.As(err, &se) || se.Field != adapters.BotToken {
		t.Errorf("a token of another workspace: %v", err)
	}
	s.Arm("auth.test", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"account_inactive"}`})
	if err := a.Connect(t.Context(), endpoint()); !errors.As(err, &se) || se.Reason != adapters.BadSecret {
		t.Errorf("a revoked token: %v", err)
	}
	if err := a.Disconnect(t.Context(), endpoint()); err != nil {
		t.Errorf("disconnect: %v", err)
	}
}
