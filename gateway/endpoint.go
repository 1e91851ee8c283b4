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
	Warnings     []string // what staff should know although the endpoint may work
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

// An EndpointCheck is an endpoint whose provider is to be asked about it.
type EndpointCheck struct {
	State       EndpointState
	Failures    int           // checks in a row that found a fault, or that the provider did not answer
	SinceRepair time.Duration // since Connect was last called to correct a fault; years if it never was
	Reported    bool          // by the provider itself, or by a send that it rejected, since the last check
}

// A CheckResult is what a provider says about an endpoint.
type CheckResult struct {
	Unknown  bool              // the provider did not answer: the status remains
	Fault    string            // why the endpoint does not work; empty if it does
	Settings map[string]string // nil: unchanged
	Warnings []string
	Repaired bool          // Connect was called
	Next     time.Duration // until the next check
}

// A NoticeKind says where a notice about an endpoint comes from. Only the latest of each kind is kept.
type NoticeKind string

// The kinds of notice.
const (
	WebhookRefused NoticeKind = "webhook"  // a request to the webhook was rejected
	SendRefused    NoticeKind = "send"     // the provider rejected the credentials when a reply was sent
	ProviderNotice NoticeKind = "provider" // the provider reported something about the app itself
)

// A Notice is something about an endpoint that staff should know, and that does not change its status.
type Notice struct {
	Kind   NoticeKind
	Reason string // from a small set
	Detail string // such as the URL against which a signature was checked; no secret
	At     time.Time
}

// FirstCheckDelay is the time from the set-up of an endpoint, which asked the provider, to the first
// check.
const FirstCheckDelay = time.Minute

// NoticeAge is how long a notice is shown.
const NoticeAge = 24 * time.Hour
