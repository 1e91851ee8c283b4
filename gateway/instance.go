package gateway

import (
	"errors"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// Errors of everything that keeps instances and endpoints.
var (
	// ErrNoInstance says no such instance, or one of another tenant.
	ErrNoInstance = errors.New("gateway: no such instance")
	// ErrNoEndpoint says that the instance has no endpoint on the channel.
	ErrNoEndpoint = errors.New("gateway: no such endpoint")
)

// An Instance is one bot: its channels, and the program that answers.
type Instance struct {
	ID              string
	TenantID        string
	Name            string
	AgentURL        string    // empty: nobody is called
	AgentDisabledAt time.Time // not zero: the runtime answered 410 and is not called any more
	UnknownSenders  UnknownSenders
	WelcomeText     string // the answer to /start; empty: the house's own
	Freshness       identity.Freshness
	SMSInvites      bool // staff may invite by SMS and WhatsApp
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// UnknownSenders says what becomes of messages of people whom nobody knows.
type UnknownSenders string

// The policies: hand on, answer once and keep from the runtime, or keep silently.
const (
	Forward UnknownSenders = "forward"
	Answer  UnknownSenders = "reply"
	Drop    UnknownSenders = "drop"
)

// An InstanceEdit changes some fields of an instance; nil leaves a field as it is,
// and a pointer to "" or 0 clears it. A new AgentURL ends a disabling.
type InstanceEdit struct {
	Name, AgentURL, WelcomeText *string
	UnknownSenders              *UnknownSenders
	SMSInvites                  *bool

	OwnerDays, CustomerDays, SilenceDays *int // see identity.Freshness
}

// InstanceSecrets are shown once, when an instance is made or the secret is rotated.
type InstanceSecrets struct {
	AgentSecretKey string // names the instance to the conversation-user API; kept as a hash
	WebhookSecret  string // "whsec_…", signs events; kept sealed
}

// A SecretKind is one of the two secrets of an instance.
type SecretKind string

// The secrets of an instance.
const (
	WebhookSecret  SecretKind = "webhook_secret"
	AgentSecretKey SecretKind = "agent_secret_key"
)

// A Seat is an endpoint with the state it is in.
type Seat struct {
	adapters.Endpoint
	Status       SeatStatus
	ErrorMessage string
	LastEventAt  time.Time
	Retries      int
	Fault        error          // the credentials cannot be opened; there are none then
	Overlap      *time.Duration // how long a secret that is replaced stays good; nil: as is usual on the channel
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// A SeatStatus says whether an endpoint works.
type SeatStatus string

// The states of an endpoint, as the API names them. NotConfigured is never kept.
const (
	NotConfigured SeatStatus = "not_configured"
	Active        SeatStatus = "active"
	Faulty        SeatStatus = "error"
	Disabled      SeatStatus = "disabled"
)
