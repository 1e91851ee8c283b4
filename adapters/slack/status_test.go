package slack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
)

func TestStatus(t *testing.T) {
	all := []string{"chat:write", "im:history", "app_mentions:read"}
	for _, tt := range []struct {
		name    string
		change  func(*simulator.SlackApp)
		fault   string // part of it, also of an error; "" for none
		warning string
	}{
		{name: "scopes not reported", change: func(*simulator.SlackApp) {}},
		{name: "no settings", change: func(*simulator.SlackApp) {}},
		{name: "all scopes", change: func(a *simulator.SlackApp) { a.Scopes = all }},
		{name: "no scope to write", change: func(a *simulator.SlackApp) { a.Scopes = all[1:] }, fault: "missing_scope"},
		{
			name:    "no direct messages",
			change:  func(a *simulator.SlackApp) { a.Scopes = slices.Delete(slices.Clone(all), 1, 2) },
			warning: "im:history",
		},
		{
			name: "token revoked", change: func(a *simulator.SlackApp) { a.TokenError = "token_revoked" },
			fault: "token_revoked",
		},
		{
			name: "uninstalled", change: func(a *simulator.SlackApp) { a.TokenError = "account_inactive" },
			fault: "account_inactive",
		},
		{name: "another token", change: func(a *simulator.SlackApp) { a.Token = "xoxb-another" }, fault: "invalid_auth"},
		{name: "another workspace", change: func(a *simulator.SlackApp) { a.TeamID = "T0OTHER" }, fault: "another workspace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, a := newSimulator(t)
			app := simulator.SlackApp{AppID: appID, TeamID: teamID, TeamName: "Example", BotUserID: botUserID, Token: botToken}
			tt.change(&app)
			s.AddApp(app)
			ep, bot := endpoint(), botUserID
			if tt.name == "no settings" {
				ep.Settings, bot = nil, ""
			}
			got, err := a.Status(t.Context(), ep, time.Time{})
			if s := got.Settings; err == nil && (s[adapters.TeamName] != "Example" || s[adapters.BotUserID] != bot) {
				t.Errorf("settings = %v, want the name of the workspace and what was set", s)
			}
			fault, warnings := got.Fault, strings.Join(got.Warnings, "\n")
			if err != nil {
				se, ok := errors.AsType[*adapters.SetupError](err)
				fault = se.Message
				if !ok || se.Retryable() {
					t.Errorf("Status() = %v, want an error that retrying does not correct", err)
				}
			}
			if (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) ||
				(warnings == "") != (tt.warning == "") || !strings.Contains(warnings, tt.warning) {
				t.Errorf("Status() = %+v, %v, want fault %q and warning %q", got, err, tt.fault, tt.warning)
			}
		})
	}
	s, a := newSimulator(t)
	s.Arm("auth.test", simulator.Fault{Status: 503})
	_, err := a.Status(t.Context(), endpoint(), time.Time{})
	if se, ok := errors.AsType[*adapters.SetupError](err); !ok || !se.Retryable() {
		t.Errorf("Status() while Slack is unavailable = %v, want a retryable error", err)
	}
}

// TestReceive_Notices checks which events report something about the app itself.
func TestReceive_Notices(t *testing.T) {
	_, a := newSimulator(t)
	envelope := func(event string) string {
		return `{"type":"event_callback","team_id":"` + teamID + `","api_app_id":"` + appID + `","event_id":"Ev1","event":` +
			event + `}`
	}
	for body, want := range map[string]string{
		`{"type":"app_rate_limited","team_id":"` + teamID + `","api_app_id":"` + appID +
			`","minute_rate_limited":1518467820}`: "app_rate_limited",
		envelope(`{"type":"app_uninstalled"}`):                                      "app_uninstalled",
		envelope(`{"type":"tokens_revoked","tokens":{"bot":["U0BOT"],"oauth":[]}}`): "tokens_revoked",
		envelope(`{"type":"tokens_revoked","tokens":{"oauth":["U0STEVE"]}}`):        "",
		envelope(`{"type":"channel_archive","channel":"C1"}`):                       "",
	} {
		in, err := a.Receive(genuineRequest(endpoint(), "events", []byte(body)), endpoint(), "events")
		got := ""
		if len(in.Notices) > 0 {
			got = in.Notices[0].Reason
		}
		if err != nil || got != want {
			t.Errorf("Receive(%s) = notice %q, %v, want %q", body, got, err, want)
		}
	}
}

func TestPoll_PermanentErrors(t *testing.T) {
	refuses := func(code string) func(*simulator.Slack, *adapters.Endpoint) {
		return func(s *simulator.Slack, _ *adapters.Endpoint) {
			s.Arm("apps.connections.open", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"` + code + `"}`})
		}
	}
	token := func(token string) func(*simulator.Slack, *adapters.Endpoint) {
		return func(_ *simulator.Slack, ep *adapters.Endpoint) { ep.Credentials[adapters.AppToken] = token }
	}
	for name, c := range map[string]struct {
		change func(*simulator.Slack, *adapters.Endpoint)
		reason adapters.Reason
		code   string
	}{
		"unknown token":    {token("xapp-1-A0KRD7HC3-1-unknown"), adapters.BadSecret, "invalid_auth"},
		"bot token":        {token(botToken), adapters.BadSecret, "not_allowed_token_type"},
		"no token":         {token(""), adapters.BadSecret, "no_token"},
		"invalid auth":     {refuses("invalid_auth"), adapters.BadSecret, "invalid_auth"},
		"account inactive": {refuses("account_inactive"), adapters.BadSecret, "account_inactive"},
		"token revoked":    {refuses("token_revoked"), adapters.BadSecret, "token_revoked"},
		"not authed":       {refuses("not_authed"), adapters.BadSecret, "not_authed"},
		"missing scope":    {refuses("missing_scope"), adapters.BadSecret, "missing_scope"},
		"forbidden team":   {refuses("forbidden_team"), adapters.Refused, "forbidden_team"},
		"another app": {func(_ *simulator.Slack, ep *adapters.Endpoint) {
			ep.Settings[adapters.AppID] = "A0OTHER001"
		}, adapters.BadSecret, "other_app"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSocketSimulator(t)
				ep := socketEndpoint()
				c.change(s, &ep)
				err := a.Poll(t.Context(), ep, "", (&adaptertest.Store{}).Add)
				var se *adapters.SendError
				if !errors.As(err, &se) || se.Reason != c.reason || se.Code != c.code {
					t.Errorf("%v, want a *SendError that says %s (%s)", err, c.reason, c.code)
				}
				if strings.Contains(fmt.Sprint(err), "xapp-") || strings.Contains(fmt.Sprint(err), "://") {
					t.Errorf("the error contains a secret: %v", err)
				}
			})
		})
	}
}

// TestPoll_SocketModeDisabled switches Socket Mode off, and revokes the token, while a connection is open.
func TestPoll_SocketModeDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		done := make(chan error, 1)
		go func() { done <- a.Poll(t.Context(), socketEndpoint(), "", (&adaptertest.Store{}).Add) }()
		synctest.Wait()
		s.DisconnectSockets(appID, "link_disabled")
		var se *adapters.SendError
		if err := <-done; !errors.As(err, &se) || se.Reason != adapters.Refused {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestSocket_Notices checks that what Slack reports about the app over a connection is passed on, and that
// the replacement of a connection is not.
func TestSocket_Notices(t *testing.T) {
	for inner, want := range map[string]string{
		`{"type":"app_uninstalled"}`:                             "app_uninstalled",
		`{"type":"tokens_revoked","tokens":{"bot":["U0BOT"]}}`:   "tokens_revoked",
		`{"type":"tokens_revoked","tokens":{"oauth":["U0MEM"]}}`: "",
	} {
		synctest.Test(t, func(t *testing.T) {
			s, a := newSocketSimulator(t)
			var reasons []string
			a.Notify = func(_ context.Context, ep adapters.Endpoint, n adapters.ProviderNotice) {
				reasons = append(reasons, ep.Address+" "+n.Reason)
			}
			adaptertest.StartPolling(t, a, socketEndpoint(), "", (&adaptertest.Store{}).Add)
			synctest.Wait()
			s.DisconnectSockets(appID, "refresh_requested")
			adaptertest.Advance(time.Minute)
			if d, err := s.SendEvent(t.Context(), appID, []byte(inner)); err != nil || !d.Accepted() {
				t.Fatal(d, err)
			}
			synctest.Wait()
			if want != "" {
				want = teamID + " " + want
			}
			if got := strings.Join(reasons, ","); got != want {
				t.Errorf("notices after %s = %q, want %q", inner, got, want)
			}
		})
	}
}
