package telegram

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"

	"hydragate/adapters"
)

const (
	maxConnections  = 40
	maxErrorMessage = 256
)

// Check asks Telegram whose token it is and fills in Address, the bot's id, and its
// username.
func (a *Adapter) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	if !isBotToken(ep.Credentials[adapters.BotToken]) {
		return ep, &adapters.SetupError{
			Reason: adapters.Refused, Field: adapters.BotToken,
			Message: "This is not a bot token. BotFather gives tokens like 123456789:AAE… with 35 characters after the colon.",
		}
	}
	var me models.User
	if err := a.call(ctx, ep, callTimeout, "getMe", struct{}{}, &me); err != nil {
		return ep, newSetupError(err, ep)
	}
	if !me.IsBot || me.ID == 0 || me.Username == "" {
		return ep, &adapters.SetupError{Reason: adapters.Refused, Field: adapters.BotToken, Message: "This token is not a bot's."}
	}
	ep.Address = formatInt(me.ID)
	settings := map[string]string{}
	maps.Copy(settings, ep.Settings)
	settings[adapters.BotUsername] = adapters.Sanitize(me.Username, maxUsername)
	ep.Settings = settings
	return ep, nil
}

// Connect points the bot at ep.WebhookURL, or for polling away from any webhook,
// and tells Telegram which commands to offer in private chats. What waits at
// Telegram stays there.
func (a *Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if err := a.configureWebhook(ctx, ep); err != nil {
		return err
	}
	if err := a.call(ctx, ep, callTimeout, "setMyCommands", botCommands(), nil); err != nil {
		return newSetupError(err, ep)
	}
	return nil
}

func (a *Adapter) configureWebhook(ctx context.Context, ep adapters.Endpoint) error {
	if ep.Mode == adapters.Polling {
		return a.deleteWebhook(ctx, ep)
	}
	secrets := ep.Current(adapters.WebhookSecret)
	if len(secrets) == 0 || ep.WebhookURL == "" {
		return &adapters.SetupError{Reason: adapters.Refused, Message: "The webhook needs a public URL and a secret."}
	}
	err := a.call(ctx, ep, callTimeout, "setWebhook", &bot.SetWebhookParams{
		URL: ep.WebhookURL, SecretToken: secrets[0], AllowedUpdates: allowedUpdates(), MaxConnections: maxConnections,
	}, nil)
	if err != nil {
		return newSetupError(err, ep)
	}
	return nil
}

// Disconnect removes the webhook, if it is still the one at ep.WebhookURL.
func (a *Adapter) Disconnect(ctx context.Context, ep adapters.Endpoint) error {
	var info struct {
		URL string `json:"url"`
	}
	if err := a.call(ctx, ep, callTimeout, "getWebhookInfo", struct{}{}, &info); err != nil {
		return newSetupError(err, ep)
	}
	if info.URL == "" || info.URL != ep.WebhookURL {
		return nil
	}
	return a.deleteWebhook(ctx, ep)
}

func (a *Adapter) deleteWebhook(ctx context.Context, ep adapters.Endpoint) error {
	if err := a.call(ctx, ep, callTimeout, "deleteWebhook", &bot.DeleteWebhookParams{}, nil); err != nil {
		return newSetupError(err, ep)
	}
	return nil
}

type commandScope struct {
	Type string `json:"type"`
}

type commandList struct {
	Commands []models.BotCommand `json:"commands"`
	Scope    commandScope        `json:"scope"`
}

// botCommands are shown by the person's app while they type; only in private
// chats, since a code does not belong into a group.
func botCommands() commandList {
	return commandList{
		Commands: []models.BotCommand{
			{Command: "claim", Description: "Link this account with the code you were given"},
			{Command: "whoami", Description: "Show what this account is linked to"},
			{Command: "unlink", Description: "Remove the link"},
			{Command: "help", Description: "What you can do here"},
			{Command: "start", Description: "Begin"},
		},
		Scope: commandScope{"all_private_chats"},
	}
}

// newSetupError puts a fault into words for staff: Telegram's own, where it has some.
func newSetupError(err error, ep adapters.Endpoint) error {
	var e *adapters.SendError
	if !errors.As(err, &e) {
		return err
	}
	s := &adapters.SetupError{Reason: e.Reason, Err: e}
	var r *apiError
	switch {
	case e.Reason == adapters.BadSecret:
		s.Field, s.Message = adapters.BotToken, "Telegram does not know this bot token."
	case e.Reason == adapters.Throttled:
		s.Message = "Telegram asks to slow down."
	case e.Reason == adapters.Unreachable || e.Reason == adapters.Ambiguous:
		s.Reason, s.Message = adapters.Unreachable, "Telegram does not answer." // asking again is harmless
	case errors.As(err, &r):
		s.Reason, s.Message = adapters.Refused, redactSecrets(r.description, ep)
	}
	return s
}

// redactSecrets makes sure that no server can quote our secrets to staff.
func redactSecrets(s string, ep adapters.Endpoint) string {
	for _, secret := range ep.Credentials {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[redacted]")
		}
	}
	return adapters.Sanitize(s, maxErrorMessage)
}

// isBotToken reports whether s is made like a token: the bot's id, a colon, and some 35
// characters.
func isBotToken(s string) bool {
	id, secret, ok := strings.Cut(s, ":")
	if !ok || id == "" || len(s) > 100 || len(secret) < 30 {
		return false
	}
	digit := func(r rune) bool { return r >= '0' && r <= '9' }
	letter := func(r rune) bool {
		return digit(r) || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '-'
	}
	return strings.TrimFunc(id, digit) == "" && strings.TrimFunc(secret, letter) == ""
}
