package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

type slackResponse struct {
	BotUserID   *string `json:"bot_user_id" doc:"Slack user ID of the bot."`
	CommandsURL *string `json:"commands_url" doc:"URL for the slash command /claim. Null in Socket Mode."`
	Enabled     bool    `json:"enabled" doc:"Whether the channel is set up and not switched off."`
	Mode        *string `json:"mode" enum:"webhook,socket" doc:"How the gateway receives messages: Slack calls the webhook URL, or the gateway connects to Slack (Socket Mode)."`
	Status      string  `json:"status" enum:"not_configured,active,error,disabled" doc:"State of the channel: not set up, working, failing, or switched off."`
	TeamID      *string `json:"team_id" doc:"ID of the Slack workspace."`
	TeamName    *string `json:"team_name" doc:"Name of the Slack workspace."`
	WebhookURL  *string `json:"webhook_url" doc:"URL for event subscriptions. Null in Socket Mode."`
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
	BotToken      string                   `json:"bot_token" minLength:"1" maxLength:"255" writeOnly:"true" doc:"Bot token of the Slack app (xoxb-…). It is stored encrypted and never shown."`
	SigningSecret string                   `json:"signing_secret" minLength:"1" maxLength:"255" writeOnly:"true" doc:"Signing secret of the Slack app. It is stored encrypted and never shown."`
	AppToken      fastapi.Optional[string] `json:"app_token,omitempty" maxLength:"255" writeOnly:"true" doc:"App-level token (xapp-…) with the scope connections:write. With it, the gateway uses Socket Mode, which needs no public URL. Without it, Slack calls the webhook URLs. It is stored encrypted and never shown."`
	GracePeriod   fastapi.Optional[int]    `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800" doc:"How long the previous signing secret stays valid, in seconds. Default: one day. 0 ends it immediately."`
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
