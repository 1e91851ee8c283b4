package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/gateway"
)

type telegramAnswer struct {
	BotUsername       *string `json:"bot_username"`
	HasBotToken       bool    `json:"has_bot_token"`
	InstanceID        string  `json:"instance_id" format:"uuid"`
	Message           *string `json:"message" doc:"How the set-up went, for staff to read."`
	Mode              *string `json:"mode" enum:"webhook,polling"`
	Status            string  `json:"status" enum:"not_configured,active,error,disabled"`
	TelegramEnabled   bool    `json:"telegram_enabled"`
	WebhookRegistered bool    `json:"webhook_registered"`
	WebhookURL        *string `json:"webhook_url"`
}

type telegramOut struct{ Body telegramAnswer }

func toTelegram(instance string, s gateway.Seat) *telegramOut {
	return &telegramOut{telegramAnswer{
		BotUsername: orNull(s.Settings[adapters.BotUsername]), HasBotToken: s.Status != gateway.NotConfigured, InstanceID: instance,
		Message: orNull(telegramMessage(s)), Mode: orNull(string(s.Mode)), Status: string(s.Status), TelegramEnabled: enabled(s),
		WebhookRegistered: s.Status == gateway.Active && s.Mode == adapters.Webhook, WebhookURL: hookOf(s, ""),
	}}
}

func telegramMessage(s gateway.Seat) string {
	switch {
	case s.ErrorMessage != "":
		return s.ErrorMessage
	case s.Settings[adapters.Warning] != "":
		return s.Settings[adapters.Warning]
	case s.Status == gateway.Active:
		return "The bot @" + s.Settings[adapters.BotUsername] + " is connected."
	}
	return ""
}

type telegramSetUp struct {
	BotToken string      `json:"bot_token" minLength:"30" maxLength:"100" writeOnly:"true" doc:"From @BotFather. Kept sealed and never shown."`
	Mode     Opt[string] `json:"mode,omitempty" enum:"webhook,polling" doc:"Default: webhook. Polling needs no public address."`
	Overlap  Opt[int]    `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800" doc:"How long the webhook secret of the set-up before stays good for what is on its way. Default: ten minutes. 0 ends it now."`
}

func (a *API) getTelegram(ctx context.Context, in *InstancePath) (*telegramOut, error) {
	s, err := a.seat(ctx, in.InstanceID, adapters.Telegram)
	return toTelegram(in.InstanceID, s), err
}

func (a *API) setUpTelegram(ctx context.Context, in *struct {
	InstancePath
	Body telegramSetUp
}) (*telegramOut, error) {
	mode := adapters.Mode(in.Body.Mode.Value)
	if mode == "" {
		mode = adapters.Webhook
	}
	s, err := a.setUp(ctx, in.InstanceID, adapters.Telegram, mode, adapters.Credentials{adapters.BotToken: in.Body.BotToken}, "", overlapOf(in.Body.Overlap)...)
	return toTelegram(in.InstanceID, s), err
}

func (a *API) removeTelegram(ctx context.Context, in *InstancePath) (*none, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.Telegram)
}
