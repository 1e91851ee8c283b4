package gateway

import (
	"slices"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

// An Instance is a bot, with its channels and the application that handles its messages.
type Instance struct {
	ID                 string
	TenantID           string
	Name               string
	AgentURL           string    // of the application; empty: events wait
	AgentDisabledAt    time.Time // not zero: the application responded with 410 and is no longer called
	UnknownSenders     UnknownSenderPolicy
	WelcomeText        string // the reply to /start; empty: the default text
	VerificationPolicy identity.VerificationPolicy
	SMSInvites         bool                // staff may invite by SMS and WhatsApp
	DefaultRegion      string              // country, such as US, of numbers without a country code; may be empty
	OwnerChannels      *[]adapters.Channel // on which a claim or an invite grants owner; nil: all
	Events             *[]EventType        // that the application receives; nil: DefaultEventTypes
	CreatedAt          time.Time
	UpdatedAt          time.Time
}

// Receives reports whether the application receives events of a type.
func (i Instance) Receives(t EventType) bool {
	if i.Events == nil {
		return slices.Contains(DefaultEventTypes(), t)
	}
	return slices.Contains(*i.Events, t)
}

// An UnknownSenderPolicy decides what happens to messages from unknown senders.
type UnknownSenderPolicy string

// The policies for messages from unknown senders. All messages are stored.
const (
	ForwardUnknown UnknownSenderPolicy = "forward" // deliver them to the application
	ReplyToUnknown UnknownSenderPolicy = "reply"   // do not deliver them; reply to the first
	DropUnknown    UnknownSenderPolicy = "drop"    // neither deliver them nor reply
)

// An InstanceEdit changes fields of an instance. Nil leaves a field unchanged, and a pointer to ""
// or 0 clears it. A new AgentURL enables a disabled application again.
type InstanceEdit struct {
	Name, AgentURL, WelcomeText *string
	DefaultRegion               *string
	UnknownSenders              *UnknownSenderPolicy
	SMSInvites                  *bool
	OwnerChannels               *OwnerChannelsEdit
	Events                      *EventsEdit

	OwnerDays, CustomerDays, InactivityDays *int // see identity.VerificationPolicy
}

// An OwnerChannelsEdit replaces Instance.OwnerChannels.
type OwnerChannelsEdit struct{ Channels *[]adapters.Channel }

// An EventsEdit replaces Instance.Events.
type EventsEdit struct{ Types *[]EventType }

// InstanceSecrets holds the secrets of an instance. A secret is shown once, when the instance is
// created or the secret is rotated.
type InstanceSecrets struct {
	AgentSecretKey string // authenticates the instance to the conversation-user API; stored as a hash
	WebhookSecret  string // "whsec_…", signs events; stored encrypted
}

// A SecretKind names one of the two secrets of an instance.
type SecretKind string

// The secrets of an instance.
const (
	WebhookSecret  SecretKind = "webhook_secret"
	AgentSecretKey SecretKind = "agent_secret_key"
)

// A SecretRotation replaces a secret of an instance.
type SecretRotation struct {
	TenantID    string
	InstanceID  string
	Kind        SecretKind
	Secret      string        // the new secret
	GracePeriod time.Duration // for which the previous secret remains valid
}
