package slack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"

	api "github.com/slack-go/slack"

	"hydragate/adapters"
)

const (
	rotatingTokenPattern = `^xoxe(\.xox[bp])?-`
	botTokenPattern      = `^xoxb-[A-Za-z0-9-]{8,250}$`
	appTokenPattern      = `^xapp-[A-Za-z0-9-]{8,250}$`
	appTokenAppPattern   = `^xapp-[0-9]+-(A[A-Z0-9]+)-` // captures the app's ID
	signingSecretPattern = `^[A-Za-z0-9]{16,128}$`
)

// Check calls auth.test and returns ep with the workspace and the bot's own IDs. The ID of the app
// stays unknown if the token lacks the scope users:read. Slack offers no way to verify a signing
// secret, so only its form is checked. For Socket Mode, Check requests a connection with the
// app-level token and does not use it.
func (a *Adapter) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	if err := validateCredentials(ep); err != nil {
		return ep, err
	}
	who, _, err := a.authTest(ctx, ep)
	if err != nil {
		return ep, err
	}
	if !isID(who.TeamID) || !isUserID(who.UserID) || who.BotID == "" {
		return ep, newInputError(
			adapters.BotToken,
			"This token does not belong to a bot. Use the Bot User OAuth Token, which starts with xoxb-.",
		)
	}
	appID, err := a.appID(ctx, ep, who.BotID)
	if err != nil {
		return ep, err
	}
	if err := a.checkSocketMode(ctx, ep, appID); err != nil {
		return ep, err
	}
	settings := maps.Clone(ep.Settings)
	if settings == nil {
		settings = map[string]string{}
	}
	settings[adapters.TeamName] = adapters.Sanitize(who.Team, maxName)
	settings[adapters.BotUserID] = who.UserID
	settings[adapters.BotID] = who.BotID
	settings[adapters.AppID] = appID
	ep.Address, ep.Settings = who.TeamID, settings
	return ep, nil
}

// Connect checks that the token still works in the workspace of the endpoint. It configures
// nothing: Slack does not let a bot token set request URLs, so staff enter them in the app's
// settings.
func (a *Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if err := validateCredentials(ep); err != nil {
		return err
	}
	who, _, err := a.authTest(ctx, ep)
	if err != nil {
		return err
	}
	return checkWorkspace(who, ep)
}

func checkWorkspace(who *api.AuthTestResponse, ep adapters.Endpoint) error {
	if who.TeamID != ep.Address {
		return newInputError(adapters.BotToken, "This bot token belongs to another workspace.")
	}
	return nil
}

// Disconnect does nothing, because Connect configures nothing.
func (a *Adapter) Disconnect(context.Context, adapters.Endpoint) error { return nil }

func validateCredentials(ep adapters.Endpoint) error {
	if regexp.MustCompile(rotatingTokenPattern).MatchString(ep.Credentials[adapters.BotToken]) {
		return newInputError(
			adapters.BotToken,
			"This token expires within 12 hours, because token rotation is on in the app's settings. Turn off token "+
				"rotation under OAuth & Permissions (or create the app again, if Slack does not let you), reinstall the "+
				"app, and use the Bot User OAuth Token, which then starts with xoxb-.",
		)
	}
	if !regexp.MustCompile(botTokenPattern).MatchString(ep.Credentials[adapters.BotToken]) {
		return newInputError(
			adapters.BotToken,
			"A bot token starts with xoxb-. It stands under OAuth & Permissions in the app's settings.",
		)
	}
	if !regexp.MustCompile(signingSecretPattern).MatchString(ep.Credentials[adapters.SigningSecret]) {
		return newInputError(
			adapters.SigningSecret,
			"The signing secret stands under Basic Information in the app's settings: letters and digits, without blanks.",
		)
	}
	if ep.Mode == adapters.Socket && !regexp.MustCompile(appTokenPattern).MatchString(ep.Credentials[adapters.AppToken]) {
		return newInputError(
			adapters.AppToken,
			"An app-level token starts with xapp-. It stands under Basic Information in the app's settings, "+
				"and needs the scope connections:write.",
		)
	}
	return nil
}

// checkSocketMode checks that the app-level token opens connections for the same app.
func (a *Adapter) checkSocketMode(ctx context.Context, ep adapters.Endpoint, appID string) error {
	if ep.Mode != adapters.Socket {
		return nil
	}
	of := regexp.MustCompile(appTokenAppPattern).FindStringSubmatch(ep.Credentials[adapters.AppToken])
	if of != nil && appID != "" && of[1] != appID {
		return newInputError(adapters.AppToken, "This app-level token belongs to another app than the bot token.")
	}
	_, err := a.socketURL(ctx, ep)
	var e *adapters.SendError
	if !errors.As(err, &e) {
		return nil
	}
	refused := setupErrorFrom(e)
	if refused.Field != "" {
		refused.Field = adapters.AppToken
		refused.Message = fmt.Sprintf(
			"Slack does not accept this app-level token (%s). It needs the scope connections:write, "+
				"and Socket Mode must be on in the app's settings.", e.Code,
		)
	}
	return refused
}

// authTest calls auth.test. It also returns the scopes of the token, separated by commas; empty if
// Slack does not report them.
func (a *Adapter) authTest(
	ctx context.Context, ep adapters.Endpoint,
) (who *api.AuthTestResponse, scopes string, err error) {
	c := a.newCall()
	who, err = c.apiClient(a, ep.Credentials[adapters.BotToken]).AuthTestContext(ctx)
	if err != nil {
		return nil, "", setupErrorFrom(c.sendError(err))
	}
	return who, c.scopes, nil
}

// appID returns the ID of the app of the bot; empty if the token does not permit the lookup.
func (a *Adapter) appID(ctx context.Context, ep adapters.Endpoint, botID string) (string, error) {
	c := a.newCall()
	bot, err := c.apiClient(a, ep.Credentials[adapters.BotToken]).
		GetBotInfoContext(ctx, api.GetBotInfoParameters{Bot: botID})
	if err != nil {
		if e := setupErrorFrom(c.sendError(err)); e.Retryable() {
			return "", e
		}
		return "", nil
	}
	if !isID(bot.AppID) {
		return "", nil
	}
	return bot.AppID, nil
}

// newInputError returns the error of an invalid set-up input, in words for staff.
func newInputError(field, message string) *adapters.SetupError {
	return &adapters.SetupError{Reason: adapters.Refused, Field: field, Message: message, Err: errors.New("slack set-up")}
}

// setupErrorFrom returns e as an error for staff. The calls during setup change nothing, so an
// ambiguous result is reported as unreachable.
func setupErrorFrom(e *adapters.SendError) *adapters.SetupError {
	s := &adapters.SetupError{Reason: e.Reason, RetryAfter: e.RetryAfter, Err: e}
	switch e.Reason {
	case adapters.Unreachable, adapters.Ambiguous:
		s.Reason, s.Message = adapters.Unreachable, "Slack does not answer."
	case adapters.Throttled:
		s.Message = "Slack asks us to wait."
	case adapters.BadSecret:
		s.Field, s.Message = adapters.BotToken, fmt.Sprintf("Slack does not accept this bot token (%s). "+
			"Reinstall the app to the workspace, and connect the channel with the bot token that Slack then shows.", e.Code)
	default:
		s.Field, s.Message = adapters.BotToken, fmt.Sprintf("Slack refused (%s).", e.Code)
	}
	return s
}
