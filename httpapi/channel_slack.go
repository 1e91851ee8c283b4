package httpapi

import (
	"context"

	"hydragate/adapters"
	"hydragate/gateway"
)

type slackAnswer struct {
	BotUserID   *string `json:"bot_user_id"`
	CommandsURL *string `json:"commands_url" doc:"For the slash command /claim; null in Socket Mode."`
	Enabled     bool    `json:"enabled"`
	Mode        *string `json:"mode" enum:"webhook,socket" doc:"Socket: the gateway connects to Slack."`
	Status      string  `json:"status" enum:"not_configured,active,error,disabled"`
	TeamID      *string `json:"team_id"`
	TeamName    *string `json:"team_name"`
	WebhookURL  *string `json:"webhook_url" doc:"For event subscriptions; null in Socket Mode."`
}

type slackOut struct{ Body slackAnswer }

func toSlack(s gateway.Seat) *slackOut {
	return &slackOut{slackAnswer{
		BotUserID: orNull(s.Settings[adapters.BotUserID]), CommandsURL: hookOf(s, "/commands"), Enabled: enabled(s), Mode: orNull(string(s.Mode)),
		Status: string(s.Status), TeamID: orNull(s.Address), TeamName: orNull(s.Settings[adapters.TeamName]), WebhookURL: hookOf(s, "/events"),
	}}
}

type slackSetUp struct {
	BotToken      string      `json:"bot_token" minLength:"1" maxLength:"255" writeOnly:"true" doc:"xoxb-…. Kept sealed and never shown."`
	SigningSecret string      `json:"signing_secret" minLength:"1" maxLength:"255" writeOnly:"true" doc:"Kept sealed and never shown."`
	AppToken      Opt[string] `json:"app_token,omitempty" maxLength:"255" writeOnly:"true" doc:"xapp-…, with the scope connections:write. With it messages come over Socket Mode, which needs no public URL; without it, to the webhook URLs. Kept sealed and never shown."`
	Overlap       Opt[int]    `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800" doc:"How long the signing secret that this one replaces stays good for what Slack signs with it. Default: a day. 0 ends it now."`
}

func (a *API) getSlack(ctx context.Context, in *InstancePath) (*slackOut, error) {
	s, err := a.seat(ctx, in.InstanceID, adapters.Slack)
	return toSlack(s), err
}

func (a *API) setUpSlack(ctx context.Context, in *struct {
	InstancePath
	Body slackSetUp
}) (*slackOut, error) {
	mode, creds := adapters.Webhook, adapters.Credentials{adapters.BotToken: in.Body.BotToken, adapters.SigningSecret: in.Body.SigningSecret}
	if token := in.Body.AppToken.Value; token != "" {
		mode, creds[adapters.AppToken] = adapters.Socket, token
	}
	s, err := a.setUp(ctx, in.InstanceID, adapters.Slack, mode, creds, "", overlapOf(in.Body.Overlap)...)
	return toSlack(s), err
}

func (a *API) removeSlack(ctx context.Context, in *InstancePath) (*none, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.Slack)
}
