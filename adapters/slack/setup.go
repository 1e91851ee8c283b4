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
	botTokenPattern      = `^xoxb-[A-Za-z0-9-]{8,250}$`
	appTokenPattern      = `^xapp-[A-Za-z0-9-]{8,250}$`
	appTokenAppPattern   = `^xapp-[0-9]+-(A[A-Z0-9]+)-` // where the token tells whose it is
	signingSecretPattern = `^[A-Za-z0-9]{16,128}$`
)

// Check asks Slack whose bot token this is, and gives ep with the workspace and the
// bot's own ids. The id of the app stays unknown where the token lacks the scope
// users:read. Slack offers no way to try a signing secret: only its shape is
// checked. For Socket Mode it asks for a connection with the app-level token, and does
// not use it.
func (a *Adapter) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	if err := validateCredentials(ep); err != nil {
		return ep, err
	}
	who, err := a.authTest(ctx, ep)
	if err != nil {
		return ep, err
	}
	if !isID(who.TeamID) || !isUserID(who.UserID) || who.BotID == "" {
		return ep, newSetupError(adapters.Refused, adapters.BotToken, "This token is not a bot's. Use the Bot User OAuth Token, which starts with xoxb-.")
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

// Connect makes sure that the token still works in the endpoint's workspace. It
// sets nothing: Slack lets no bot token say where requests go, so staff enter the
// URLs of the hooks in the app's own settings.
func (a *Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if err := validateCredentials(ep); err != nil {
		return err
	}
	who, err := a.authTest(ctx, ep)
	if err != nil {
		return err
	}
	if who.TeamID != ep.Address {
		return newSetupError(adapters.Refused, adapters.BotToken, "This bot token belongs to another workspace.")
	}
	return nil
}

// Disconnect has nothing to undo, because Connect sets nothing.
func (a *Adapter) Disconnect(context.Context, adapters.Endpoint) error { return nil }

func validateCredentials(ep adapters.Endpoint) error {
	if !regexp.MustCompile(botTokenPattern).MatchString(ep.Credentials[adapters.BotToken]) {
		return newSetupError(adapters.Refused, adapters.BotToken, "A bot token starts with xoxb-. It stands under OAuth & Permissions in the app's settings.")
	}
	if !regexp.MustCompile(signingSecretPattern).MatchString(ep.Credentials[adapters.SigningSecret]) {
		return newSetupError(adapters.Refused, adapters.SigningSecret, "The signing secret stands under Basic Information in the app's settings: letters and digits, without blanks.")
	}
	if ep.Mode == adapters.Socket && !regexp.MustCompile(appTokenPattern).MatchString(ep.Credentials[adapters.AppToken]) {
		return newSetupError(adapters.Refused, adapters.AppToken, "An app-level token starts with xapp-. It stands under Basic Information in the app's settings, and needs the scope connections:write.")
	}
	return nil
}

// checkSocketMode asks whether the app-level token opens connections, and for this app.
func (a *Adapter) checkSocketMode(ctx context.Context, ep adapters.Endpoint, appID string) error {
	if ep.Mode != adapters.Socket {
		return nil
	}
	of := regexp.MustCompile(appTokenAppPattern).FindStringSubmatch(ep.Credentials[adapters.AppToken])
	if of != nil && appID != "" && of[1] != appID {
		return newSetupError(adapters.Refused, adapters.AppToken, "This app-level token belongs to another app than the bot token.")
	}
	_, err := a.socketURL(ctx, ep)
	var e *adapters.SendError
	if !errors.As(err, &e) {
		return nil
	}
	refused := setupErrorFrom(e)
	if refused.Field != "" {
		refused.Field = adapters.AppToken
		refused.Message = fmt.Sprintf("Slack does not accept this app-level token (%s). It needs the scope connections:write, and Socket Mode must be on in the app's settings.", e.Code)
	}
	return refused
}

func (a *Adapter) authTest(ctx context.Context, ep adapters.Endpoint) (*api.AuthTestResponse, error) {
	c := a.newCall()
	who, err := c.apiClient(a, ep.Credentials[adapters.BotToken]).AuthTestContext(ctx)
	if err != nil {
		return nil, setupErrorFrom(c.sendError(err))
	}
	return who, nil
}

// appID asks for the app behind the bot; it is empty when the token may not know.
func (a *Adapter) appID(ctx context.Context, ep adapters.Endpoint, botID string) (string, error) {
	c := a.newCall()
	bot, err := c.apiClient(a, ep.Credentials[adapters.BotToken]).GetBotInfoContext(ctx, api.GetBotInfoParameters{Bot: botID})
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

func newSetupError(reason adapters.Reason, field, message string) *adapters.SetupError {
	return &adapters.SetupError{Reason: reason, Field: field, Message: message, Err: errors.New("slack set-up")}
}

// setupErrorFrom says in words for staff why a call failed. Asking changes nothing at
// Slack, so an answer that was lost may simply be asked for again.
func setupErrorFrom(e *adapters.SendError) *adapters.SetupError {
	s := &adapters.SetupError{Reason: e.Reason, Err: e}
	switch e.Reason {
	case adapters.Unreachable, adapters.Ambiguous:
		s.Reason, s.Message = adapters.Unreachable, "Slack does not answer."
	case adapters.Throttled:
		s.Message = "Slack asks us to wait."
	case adapters.BadSecret:
		s.Field, s.Message = adapters.BotToken, fmt.Sprintf("Slack does not accept this bot token (%s).", e.Code)
	default:
		s.Field, s.Message = adapters.BotToken, fmt.Sprintf("Slack refused (%s).", e.Code)
	}
	return s
}
