package gateway

import (
	"context"
	"time"

	"hydragate/adapters"
)

// EndpointFinder finds the endpoint of an instance on a channel; ErrNoEndpoint.
type EndpointFinder interface {
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
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
