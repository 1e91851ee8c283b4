package httpapi

import (
	"context"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

type phoneResponse struct {
	Enabled     bool    `json:"enabled" doc:"Whether the channel is set up and not switched off."`
	PhoneNumber *string `json:"phone_number" doc:"Phone number of the channel in E.164 format."`
	Status      string  `json:"status" enum:"not_configured,active,error,disabled" doc:"State of the channel: not set up, working, failing, or switched off."`
	WebhookURL  *string `json:"webhook_url" doc:"URL that Twilio calls for incoming messages."`
}

type phoneOut struct{ Body phoneResponse }

func toPhone(s gateway.EndpointState) *phoneOut {
	return &phoneOut{phoneResponse{
		Enabled:     isEnabled(s),
		PhoneNumber: operation.NullableString(strings.TrimPrefix(s.Address, "whatsapp:")),
		Status:      string(s.Status),
		WebhookURL:  webhookURL(s, ""),
	}}
}

type phoneSetUp struct {
	AccountSID  string `json:"account_sid" minLength:"1" maxLength:"64" doc:"SID of the Twilio account."`
	AuthToken   string `json:"auth_token" minLength:"1" maxLength:"128" writeOnly:"true" doc:"Auth token of the Twilio account. It is stored encrypted and never shown."`
	PhoneNumber string `json:"phone_number" minLength:"1" maxLength:"30" format:"phone" doc:"Phone number of the channel in E.164 format."`

	GracePeriod fastapi.Optional[int] `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800" doc:"How long the previous auth token stays valid for signatures, in seconds. Default: one day. 0 ends it immediately."`
}

type phoneIn struct {
	InstancePath
	Body phoneSetUp
}

func (a *API) getSMS(ctx context.Context, in *InstancePath) (*phoneOut, error) {
	return a.getPhone(ctx, in, adapters.SMS)
}

func (a *API) setUpSMS(ctx context.Context, in *phoneIn) (*phoneOut, error) {
	return a.setUpPhone(ctx, in, adapters.SMS)
}

func (a *API) removeSMS(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.SMS)
}

func (a *API) getWhatsApp(ctx context.Context, in *InstancePath) (*phoneOut, error) {
	return a.getPhone(ctx, in, adapters.WhatsApp)
}

func (a *API) setUpWhatsApp(ctx context.Context, in *phoneIn) (*phoneOut, error) {
	return a.setUpPhone(ctx, in, adapters.WhatsApp)
}

func (a *API) removeWhatsApp(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.removeChannel(ctx, in.InstanceID, adapters.WhatsApp)
}

func (a *API) getPhone(ctx context.Context, in *InstancePath, channel adapters.Channel) (*phoneOut, error) {
	s, err := a.endpoint(ctx, in.InstanceID, channel)
	return toPhone(s), err
}

func (a *API) setUpPhone(ctx context.Context, in *phoneIn, channel adapters.Channel) (*phoneOut, error) {
	creds := adapters.Credentials{adapters.AccountSID: in.Body.AccountSID, adapters.AuthToken: in.Body.AuthToken}
	s, err := a.setUpChannel(ctx, gateway.EndpointConfig{
		InstanceID: in.InstanceID, Channel: channel, Credentials: creds, Address: in.Body.PhoneNumber,
		GracePeriod: gracePeriodOption(in.Body.GracePeriod),
	})
	return toPhone(s), err
}
