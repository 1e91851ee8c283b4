package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

type telegramResponse struct {
	BotUsername       *string `json:"bot_username"`
	HasBotToken       bool    `json:"has_bot_token"`
	InstanceID        string  `json:"instance_id" format:"uuid"`
	Message           *string `json:"message"`
	Mode              *string `json:"mode" enum:"webhook,polling"`
	Status            string  `json:"status" enum:"not_configured,active,error,disabled"`
	TelegramEnabled   bool    `json:"telegram_enabled"`
	WebhookRegistered bool    `json:"webhook_registered"`
	WebhookURL        *string `json:"webhook_url"`
}

type telegramOut struct{ Body telegramResponse }

func toTelegram(instance string, s gateway.EndpointState) *telegramOut {
	return &telegramOut{telegramResponse{
		BotUsername:       operation.NullableString(s.Settings[adapters.BotUsername]),
		HasBotToken:       s.Status != gateway.EndpointNotConfigured,
		InstanceID:        instance,
		Message:           operation.NullableString(telegramMessage(s)),
		Mode:              operation.NullableString(string(s.Mode)),
		Status:            string(s.Status),
		TelegramEnabled:   isEnabled(s),
		WebhookRegistered: s.Status == gateway.EndpointActive && s.Mode == adapters.Webhook,
		WebhookURL:        webhookURL(s, ""),
	}}
}

func telegramMessage(s gateway.EndpointState) string {
	switch {
	case s.ErrorMessage != "":
		return s.ErrorMessage
	case s.Settings[adapters.Warning] != "":
		return s.Settings[adapters.Warning]
	case s.Status == gateway.EndpointActive:
		return "The bot @" + s.Settings[adapters.BotUsername] + " is connected."
	}
	return ""
}

type telegramSetUp struct {
	BotToken    string                   `json:"bot_token" minLength:"30" maxLength:"100" writeOnly:"true"`
	Mode        fastapi.Optional[string] `json:"mode,omitempty" enum:"webhook,polling"`
	GracePeriod fastapi.Optional[int]    `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800"`
}

func (a *API) getTelegram(ctx context.Context, in *InstancePath) (*telegramOut, error) {
	s, err := a.endpoint(ctx, in.InstanceID, adapters.Telegram)
	return toTelegram(in.InstanceID, s), err
}

func (a *API) setUpTelegram(ctx context.Context, in *struct {
	InstancePath
	Body telegramSetUp
},
) (*telegramOut, error) {
	mode := adapters.Mode(in.Body.Mode.Value)
	if mode == "" {
		mode = adapters.Webhook
	}
	s, err := a.setUpChannel(ctx, gateway.EndpointConfig{
		InstanceID: in.InstanceID, Channel: adapters.Telegram, Mode: mode,
		Credentials: adapters.Credentials{adapters.BotToken: in.Body.BotToken},
		GracePeriod: gracePeriodOption(in.Body.GracePeriod),
	})
	return toTelegram(in.InstanceID, s), err
}

func (a *API) removeTelegram(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.Telegram)
}
