package gateway

import (
	"context"
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// An EndpointFinder looks up endpoints.
type EndpointFinder interface {
	// Endpoint returns the endpoint of an instance on a channel. It returns ErrNoEndpoint if there
	// is none.
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

// An EndpointState is an endpoint with its status.
type EndpointState struct {
	adapters.Endpoint
	Status       EndpointStatus
	ErrorMessage string
	LastEventAt  time.Time
	Retries      int
	Checked      bool           // the provider confirmed the credentials: the endpoint may own its address
	Err          error          // not nil: the credentials cannot be decrypted, and are missing
	GracePeriod  *time.Duration // how long a replaced secret stays valid; nil: the default of the channel
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// An EndpointStatus says whether an endpoint works.
type EndpointStatus string

// The statuses of an endpoint, as in the API. EndpointNotConfigured is never stored.
const (
	EndpointNotConfigured EndpointStatus = "not_configured"
	EndpointActive        EndpointStatus = "active"
	EndpointError         EndpointStatus = "error"
	EndpointDisabled      EndpointStatus = "disabled"
)

// An AddressTakenError is returned if another endpoint of the deployment owns the address of an
// endpoint. Its text is for staff of the tenant.
type AddressTakenError struct {
	TenantID string // of the endpoint that cannot own the address
	Channel  adapters.Channel
	Owner    Instance // with ID, TenantID and Name
}

// Error names the owner only if it belongs to the same tenant.
func (e *AddressTakenError) Error() string {
	subject := "This " + adapters.TraitsOf(e.Channel).AddressKind + " is already connected "
	if e.Owner.TenantID != e.TenantID {
		return subject + "elsewhere in this deployment"
	}
	return fmt.Sprintf("%sto instance %q (%s); remove it there first", subject, e.Owner.Name, e.Owner.ID)
}

// An AddressConflict is an address that several endpoints have, of which one at most owns it.
type AddressConflict struct {
	Address   adapters.ProviderAddress
	Endpoints []EndpointState // the owner first, if there is one
	Owned     bool            // the first endpoint is the owner
}
