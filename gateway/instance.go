package gateway

import (
	"time"

	"hydragate/identity"
)

// An Instance is one bot: its channels, and the program that answers.
type Instance struct {
	ID                 string
	TenantID           string
	Name               string
	AgentURL           string    // empty: nobody is called
	AgentDisabledAt    time.Time // not zero: the runtime answered 410 and is not called any more
	UnknownSenders     UnknownSenderPolicy
	WelcomeText        string // the answer to /start; empty: the house's own
	VerificationPolicy identity.VerificationPolicy
	SMSInvites         bool // staff may invite by SMS and WhatsApp
	CreatedAt          time.Time
	UpdatedAt          time.Time
}

// UnknownSenderPolicy says what becomes of messages of people whom nobody knows.
type UnknownSenderPolicy string

// The policies: hand on, answer once and keep from the runtime, or keep silently.
const (
	ForwardUnknown UnknownSenderPolicy = "forward"
	ReplyToUnknown UnknownSenderPolicy = "reply"
	DropUnknown    UnknownSenderPolicy = "drop"
)

// An InstanceEdit changes some fields of an instance; nil leaves a field as it is,
// and a pointer to "" or 0 clears it. A new AgentURL ends a disabling.
type InstanceEdit struct {
	Name, AgentURL, WelcomeText *string
	UnknownSenders              *UnknownSenderPolicy
	SMSInvites                  *bool

	OwnerDays, CustomerDays, InactivityDays *int // see identity.Freshness
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
