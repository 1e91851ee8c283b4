package slack_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
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
