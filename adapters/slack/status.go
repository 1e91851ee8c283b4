package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
)

// Scopes of the bot token. Without the first the bot cannot answer; without the others it does not
// receive direct messages or mentions.
const requiredScope = "chat:write"

func receivingScopes() []string { return []string{"im:history", "app_mentions:read"} }

// Status calls auth.test, which fails once the app is uninstalled or its token is revoked. Slack
// offers no way to look up the request URLs of an app.
func (a *Adapter) Status(
	ctx context.Context, ep adapters.Endpoint, _ time.Time,
) (adapters.Report, error) {
	who, scopes, err := a.authTest(ctx, ep)
	if err != nil {
		return adapters.Report{}, err
	}
	if err := checkWorkspace(who, ep); err != nil {
		return adapters.Report{}, err
	}
	report := adapters.Report{Settings: maps.Clone(ep.Settings)}
	if report.Settings == nil {
		report.Settings = map[string]string{}
	}
	report.Settings[adapters.TeamName] = adapters.Sanitize(who.Team, maxName)
	granted := strings.FieldsFunc(scopes, func(r rune) bool { return r == ',' || r == ' ' })
	if len(granted) == 0 {
		return report, nil
	}
	if !slices.Contains(granted, requiredScope) {
		report.Fault = "missing_scope: the bot token lacks the scope " + requiredScope +
			". Add it under OAuth & Permissions in the app's settings, and reinstall the app."
	}
	for _, scope := range receivingScopes() {
		if !slices.Contains(granted, scope) {
			report.Warnings = append(report.Warnings, fmt.Sprintf("The bot token lacks the scope %s.", scope))
		}
	}
	return report, nil
}

// notices returns what an envelope reports about the app itself: that Slack drops its events, that it
// was uninstalled, or that its bot token was revoked.
func (e envelope) notices() []adapters.ProviderNotice {
	if e.Type == "app_rate_limited" {
		return []adapters.ProviderNotice{{Reason: e.Type, Detail: fmt.Sprintf(
			"Slack drops events of this workspace since %s, because there are too many or too many were not accepted",
			time.Unix(e.MinuteRateLimited, 0).UTC().Format(time.RFC3339),
		)}}
	}
	var event struct {
		Type   string `json:"type"`
		Tokens struct {
			Bot []string `json:"bot"`
		} `json:"tokens"`
	}
	if json.Unmarshal(e.Event, &event) != nil {
		return nil
	}
	switch {
	case event.Type == "app_uninstalled":
		return []adapters.ProviderNotice{{Reason: event.Type, Detail: "The app was removed from the workspace"}}
	case event.Type == "tokens_revoked" && len(event.Tokens.Bot) > 0:
		return []adapters.ProviderNotice{{Reason: event.Type, Detail: "The bot token was revoked"}}
	}
	return nil
}
