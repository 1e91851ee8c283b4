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
	Enabled     bool    `json:"enabled"`
	PhoneNumber *string `json:"phone_number"`
	Status      string  `json:"status" enum:"not_configured,active,error,disabled"`
	WebhookURL  *string `json:"webhook_url"`
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
	AccountSID  string `json:"account_sid" minLength:"1" maxLength:"64"`
	AuthToken   string `json:"auth_token" minLength:"1" maxLength:"128" writeOnly:"true"`
	PhoneNumber string `json:"phone_number" minLength:"1" maxLength:"30" format:"sender-number"`

	GracePeriod fastapi.Optional[int] `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"172800"`
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
