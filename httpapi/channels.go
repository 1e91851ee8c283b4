package httpapi

import (
	"context"
	"errors"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

type channelResponse struct {
	Address      *string    `json:"address"`
	Channel      string     `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Enabled      bool       `json:"enabled"`
	ErrorMessage *string    `json:"error_message"`
	LastEventAt  *time.Time `json:"last_event_at"`
	Status       string     `json:"status" enum:"not_configured,active,error,disabled"`
	Warnings     []string   `json:"warnings" nullable:"false"`
	WebhookURL   *string    `json:"webhook_url"`
}

type channelsResponse struct {
	Channels []channelResponse `json:"channels" nullable:"false" doc:"Channels of the instance that were set up."`
	Count    int               `json:"count" doc:"Number of channels."`
}

func (a *API) listChannels(ctx context.Context, in *InstancePath) (*struct{ Body channelsResponse }, error) {
	states, err := a.Endpoints.EndpointStates(ctx, operation.CallerOf(ctx).TenantID, in.InstanceID)
	if err != nil {
		return nil, operation.NameNotFound("Instance", err)
	}
	out := channelsResponse{Channels: []channelResponse{}, Count: len(states)}
	for _, s := range states {
		out.Channels = append(out.Channels, channelResponse{
			Address:      operation.NullableString(s.Address),
			Channel:      string(s.Channel),
			Enabled:      isEnabled(s),
			ErrorMessage: operation.NullableString(s.ErrorMessage),
			LastEventAt:  operation.NullableTime(s.LastEventAt),
			Status:       string(s.Status),
			Warnings:     append([]string{}, s.Warnings...),
			WebhookURL:   webhookURL(s, adapters.TraitsOf(s.Channel).WebhookSuffix),
		})
	}
	return &struct{ Body channelsResponse }{out}, nil
}

// endpoint returns the state of an endpoint. If there is none, its status is not_configured.
func (a *API) endpoint(ctx context.Context, instance string, channel adapters.Channel) (gateway.EndpointState, error) {
	s, err := a.Endpoints.EndpointState(ctx, operation.CallerOf(ctx).TenantID, instance, channel)
	if errors.Is(err, gateway.ErrNoEndpoint) {
		s, err = gateway.EndpointState{Status: gateway.EndpointNotConfigured}, nil
	}
	if s.Status == "" {
		s.Status = gateway.EndpointNotConfigured
	}
	return s, operation.NameNotFound("Instance", err)
}

// setUpChannel sets up an endpoint of the caller's tenant.
func (a *API) setUpChannel(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error) {
	key := operation.CallerOf(ctx)
	cfg.TenantID, cfg.Actor = key.TenantID, key.Actor()
	s, err := a.Endpoints.Configure(ctx, cfg)
	return s, operation.NameNotFound("Instance", err)
}

// gracePeriodOption returns how long a replaced secret stays valid, or nil if the request does not
// set it.
func gracePeriodOption(seconds fastapi.Optional[int]) *time.Duration {
	if !seconds.IsSet {
		return nil
	}
	d := time.Duration(seconds.Value) * time.Second
	return &d
}

func (a *API) removeChannel(ctx context.Context, instance string, channel adapters.Channel) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	return nil, operation.NameNotFound(
		"Instance", a.Endpoints.Remove(ctx, key.TenantID, instance, channel, key.Actor()),
	)
}

// isEnabled reports whether an endpoint is set up and not disabled. It may have the status error.
func isEnabled(s gateway.EndpointState) bool {
	return s.Status == gateway.EndpointActive || s.Status == gateway.EndpointError
}

// webhookURL returns the URL that the provider calls, with a suffix, or nil if the endpoint does
// not use webhooks.
func webhookURL(s gateway.EndpointState, suffix string) *string {
	if s.WebhookURL == "" || s.Mode == adapters.Polling || s.Mode == adapters.Socket {
		return nil
	}
	return operation.NullableString(s.WebhookURL + suffix)
}
