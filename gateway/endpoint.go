package gateway

import (
	"context"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// EndpointFinder finds the endpoint of an instance on a channel; ErrNoEndpoint.
type EndpointFinder interface {
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

// An EndpointConfig describes an endpoint to be set up.
type EndpointConfig struct {
	TenantID    string
	InstanceID  string
	Channel     adapters.Channel
	Mode        adapters.Mode // empty: adapters.Webhook
	Credentials adapters.Credentials
	Address     string // empty: as reported by the provider
	Actor       identity.Actor

	// GracePeriod is how long a replaced signing secret stays valid. Zero invalidates it, and any
	// replaced before, immediately. Nil selects the default of the channel.
	GracePeriod *time.Duration
}

// A EndpointState is an endpoint with the state it is in.
type EndpointState struct {
	adapters.Endpoint
	Status       EndpointStatus
	ErrorMessage string
	LastEventAt  time.Time
	Retries      int
	Err          error          // the credentials cannot be opened; there are none then
	GracePeriod  *time.Duration // how long a secret that is replaced stays good; nil: as is usual on the channel
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// A EndpointStatus says whether an endpoint works.
type EndpointStatus string

// The states of an endpoint, as the API names them. NotConfigured is never kept.
const (
	EndpointNotConfigured EndpointStatus = "not_configured"
	EndpointActive        EndpointStatus = "active"
	EndpointError         EndpointStatus = "error"
	EndpointDisabled      EndpointStatus = "disabled"
)
