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

// Check calls getMe, and returns ep with Address, the ID of the bot, and its username.
func (a *Adapter) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	if !isBotToken(ep.Credentials[adapters.BotToken]) {
		return ep, &adapters.SetupError{
			Reason: adapters.Refused, Field: adapters.BotToken,
			Message: "This is not a bot token. A token from BotFather looks like 123456789:AAE…, " +
				"with 35 characters after the colon.",
		}
	}
	var me models.User
	if err := a.call(ctx, ep, callTimeout, &me, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.GetMe(ctx)
		return err
	}); err != nil {
		return ep, newSetupError(err, ep)
	}
	if !me.IsBot || me.ID == 0 || me.Username == "" {
		return ep, &adapters.SetupError{
			Reason:  adapters.Refused,
			Field:   adapters.BotToken,
			Message: "This token does not belong to a bot.",
		}
	}
	ep.Address = formatInt(me.ID)
	settings := map[string]string{}
	maps.Copy(settings, ep.Settings)
	settings[adapters.BotUsername] = adapters.Sanitize(me.Username, maxUsername)
	ep.Settings = settings
	return ep, nil
}

// Connect sets the webhook of the bot to ep.WebhookURL, or removes it if the endpoint polls, and
// sets the commands offered in private chats. Pending updates are kept. If only the commands cannot be
// set, the error is Optional.
func (a *Adapter) Connect(ctx context.Context, ep adapters.Endpoint) error {
	if err := a.configureWebhook(ctx, ep); err != nil {
		return err
	}
	if err := a.call(ctx, ep, callTimeout, nil, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.SetMyCommands(ctx, botCommands())
		return err
	}); err != nil {
		return newCommandsError(err, ep)
	}
	return nil
}

// newCommandsError returns the error of a failed setMyCommands, without which the bot works.
func newCommandsError(err error, ep adapters.Endpoint) error {
	var e *adapters.SendError
	if !errors.As(err, &e) {
		return err
	}
	s := &adapters.SetupError{Reason: e.Reason, RetryAfter: e.RetryAfter, Optional: true, Err: e}
	s.Message = "The bot works, but its menu of commands could not be set"
	if described, ok := errors.AsType[*apiError](err); ok {
		s.Message += ": " + redactSecrets(described.description, ep)
	}
	s.Message += ". The gateway tries again within an hour."
	return s
}

func (a *Adapter) configureWebhook(ctx context.Context, ep adapters.Endpoint) error {
	if ep.Mode == adapters.Polling {
		return a.deleteWebhook(ctx, ep)
	}
	secrets := ep.Current(adapters.WebhookSecret)
	if len(secrets) == 0 || ep.WebhookURL == "" {
		return &adapters.SetupError{Reason: adapters.Refused, Message: "The webhook needs a public URL and a secret."}
	}
	err := a.call(ctx, ep, callTimeout, nil, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.SetWebhook(ctx, &bot.SetWebhookParams{
			URL: ep.WebhookURL, SecretToken: secrets[0], AllowedUpdates: allowedUpdates(), MaxConnections: maxConnections,
		})
		return err
	})
	if err != nil {
		return newSetupError(err, ep)
	}
	return nil
}

// Disconnect removes the webhook, if it is ep.WebhookURL.
func (a *Adapter) Disconnect(ctx context.Context, ep adapters.Endpoint) error {
	var info struct {
		URL string `json:"url"`
	}
	if err := a.call(ctx, ep, callTimeout, &info, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.GetWebhookInfo(ctx)
		return err
	}); err != nil {
		return newSetupError(err, ep)
	}
	if info.URL == "" || info.URL != ep.WebhookURL {
		return nil
	}
	return a.deleteWebhook(ctx, ep)
}

func (a *Adapter) deleteWebhook(ctx context.Context, ep adapters.Endpoint) error {
	if err := a.call(ctx, ep, callTimeout, nil, func(ctx context.Context, b *bot.Bot) error {
		_, err := b.DeleteWebhook(ctx, &bot.DeleteWebhookParams{})
		return err
	}); err != nil {
		return newSetupError(err, ep)
	}
	return nil
}

// botCommands returns the commands that Telegram apps offer while typing. They are set only for
// private chats, because codes must not be typed in groups.
func botCommands() *bot.SetMyCommandsParams {
	return &bot.SetMyCommandsParams{
		Commands: []models.BotCommand{
			{Command: "claim", Description: "Link this account with the code you were given"},
			{Command: "whoami", Description: "Show what this account is linked to"},
			{Command: "unlink", Description: "Remove the link"},
			{Command: "help", Description: "What you can do here"},
			{Command: "start", Description: "Begin"},
		},
		Scope: &models.BotCommandScopeAllPrivateChats{},
	}
}

// newSetupError returns err as an error for staff, with Telegram's own description where there is
// one.
func newSetupError(err error, ep adapters.Endpoint) error {
	var e *adapters.SendError
	if !errors.As(err, &e) {
		return err
	}
	s := &adapters.SetupError{Reason: e.Reason, RetryAfter: e.RetryAfter, Err: e}
	var described *apiError
	switch {
	case e.Reason == adapters.BadSecret:
		s.Field, s.Message = adapters.BotToken, "Telegram does not know this bot token ("+e.Err.Error()+
			"). Copy it again from BotFather."
	case e.Reason == adapters.Throttled:
		s.Message = "Telegram is limiting requests. Try again in a minute."
	case e.Reason == adapters.Unreachable || e.Reason == adapters.Ambiguous:
		s.Reason, s.Message = adapters.Unreachable, "Telegram does not answer." // repeating the call is harmless
	case errors.As(err, &described):
		s.Reason, s.Message = adapters.Refused, redactSecrets(described.description, ep)
	}
	return s
}

// redactSecrets returns s without the secrets of ep, which a server may have quoted.
func redactSecrets(s string, ep adapters.Endpoint) string {
	for _, secret := range ep.Credentials {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[redacted]")
		}
	}
	return adapters.Sanitize(s, maxErrorMessage)
}

// isBotToken reports whether s has the form of a token: the bot's ID, a colon, and about 35
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
