package httpapi

import (
	"context"
	"errors"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

type channelAnswer struct {
	Address      *string    `json:"address" doc:"Bot id, phone number, or team id."`
	Channel      string     `json:"channel" enum:"telegram,sms,slack,whatsapp"`
	Enabled      bool       `json:"enabled"`
	ErrorMessage *string    `json:"error_message"`
	LastEventAt  *time.Time `json:"last_event_at"`
	Status       string     `json:"status" enum:"not_configured,active,error,disabled"`
	WebhookURL   *string    `json:"webhook_url"`
}

type channelsAnswer struct {
	Channels []channelAnswer `json:"channels" nullable:"false"`
	Count    int             `json:"count"`
}

func (a *API) listChannels(ctx context.Context, in *InstancePath) (*struct{ Body channelsAnswer }, error) {
	seats, err := a.Channels.Seats(ctx, callerOf(ctx).TenantID, in.InstanceID)
	if err != nil {
		return nil, about("Instance", err)
	}
	out := channelsAnswer{Channels: []channelAnswer{}, Count: len(seats)}
	for _, s := range seats {
		out.Channels = append(out.Channels, channelAnswer{
			Address: orNull(s.Address), Channel: string(s.Channel), Enabled: enabled(s), ErrorMessage: orNull(s.ErrorMessage),
			LastEventAt: timeOrNull(s.LastEventAt), Status: string(s.Status), WebhookURL: hookOf(s, eventsBelow(s.Channel)),
		})
	}
	return &struct{ Body channelsAnswer }{out}, nil
}

// seat gives the endpoint of a channel; one that was never set up is a seat too.
func (a *API) seat(ctx context.Context, instance string, channel adapters.Channel) (gateway.Seat, error) {
	s, err := a.Channels.Seat(ctx, callerOf(ctx).TenantID, instance, channel)
	if errors.Is(err, gateway.ErrNoEndpoint) {
		s, err = gateway.Seat{Status: gateway.NotConfigured}, nil
	}
	if s.Status == "" {
		s.Status = gateway.NotConfigured
	}
	return s, about("Instance", err)
}

func (a *API) setUp(ctx context.Context, instance string, channel adapters.Channel, mode adapters.Mode, creds adapters.Credentials, address string, overlap ...time.Duration) (gateway.Seat, error) {
	key := callerOf(ctx)
	s, err := a.Channels.Configure(ctx, key.TenantID, instance, channel, mode, creds, address, key.Actor(), overlap...)
	return s, about("Instance", err)
}

// overlapOf gives how long a replaced secret stays good, when the caller says so.
func overlapOf(seconds Opt[int]) []time.Duration {
	if !seconds.Given {
		return nil
	}
	return []time.Duration{time.Duration(seconds.Value) * time.Second}
}

func (a *API) removeChannel(ctx context.Context, instance string, channel adapters.Channel) (*none, error) {
	key := callerOf(ctx)
	return nil, about("Instance", a.Channels.Remove(ctx, key.TenantID, instance, channel, key.Actor()))
}

// enabled reports whether an endpoint is set up and not switched off; it may be in
// error.
func enabled(s gateway.Seat) bool { return s.Status == gateway.Active || s.Status == gateway.Faulty }

// eventsBelow gives where a channel's events go, below its main URL: Slack has a URL for
// each kind of request, and nothing answers at the main one.
func eventsBelow(c adapters.Channel) string {
	if c == adapters.Slack {
		return "/events"
	}
	return ""
}

// hookOf gives the URL that a provider calls, below the main one; null when it calls
// none.
func hookOf(s gateway.Seat, below string) *string {
	if s.WebhookURL == "" || s.Mode == adapters.Polling || s.Mode == adapters.Socket {
		return nil
	}
	return orNull(s.WebhookURL + below)
}
