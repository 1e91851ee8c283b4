package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

type slackResponse struct {
	BotUserID   *string `json:"bot_user_id"`
	CommandsURL *string `json:"commands_url"`
	Enabled     bool    `json:"enabled"`
	Mode        *string `json:"mode" enum:"webhook,socket"`
	Status      string  `json:"status" enum:"not_configured,active,error,disabled"`
	TeamID      *string `json:"team_id"`
	TeamName    *string `json:"team_name"`
	WebhookURL  *string `json:"webhook_url"`
}

type slackOut struct{ Body slackResponse }

func toSlack(s gateway.EndpointState) *slackOut {
	return &slackOut{slackResponse{
		BotUserID:   operation.NullableString(s.Settings[adapters.BotUserID]),
		CommandsURL: webhookURL(s, "/commands"),
		Enabled:     isEnabled(s),
		Mode:        operation.NullableString(string(s.Mode)),
		Status:      string(s.Status),
		TeamID:      operation.NullableString(s.Address),
		TeamName:    operation.NullableString(s.Settings[adapters.TeamName]),
		WebhookURL:  webhookURL(s, "/events"),
	}}
}

type slackSetUp struct {
	BotToken      string                   `json:"bot_token" minLength:"1" maxLength:"255" writeOnly:"true"`
	SigningSecret string                   `json:"signing_secret" minLength:"1" maxLength:"255" writeOnly:"true"`
	AppToken      fastapi.Optional[string] `json:"app_token,omitempty" maxLength:"255" writeOnly:"true"`
	GracePeriod   fastapi.Optional[int]    `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800"`
}

func (a *API) getSlack(ctx context.Context, in *InstancePath) (*slackOut, error) {
	s, err := a.endpoint(ctx, in.InstanceID, adapters.Slack)
	return toSlack(s), err
}

func (a *API) setUpSlack(ctx context.Context, in *struct {
	InstancePath
	Body slackSetUp
},
) (*slackOut, error) {
	mode, creds := adapters.Webhook, adapters.Credentials{
		adapters.BotToken: in.Body.BotToken, adapters.SigningSecret: in.Body.SigningSecret,
	}
	if token := in.Body.AppToken.Value; token != "" {
		mode, creds[adapters.AppToken] = adapters.Socket, token
	}
	s, err := a.setUpChannel(ctx, gateway.EndpointConfig{
		InstanceID: in.InstanceID, Channel: adapters.Slack, Mode: mode, Credentials: creds,
		GracePeriod: gracePeriodOption(in.Body.GracePeriod),
	})
	return toSlack(s), err
}

func (a *API) removeSlack(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.Slack)
}
