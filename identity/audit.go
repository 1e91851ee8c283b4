package identity

import "time"

// An EventQuery selects the events of the audit log that match all filters that are not zero.
type EventQuery struct {
	Kind       string
	Actor      Actor
	CustomerID string
	IdentityID string
	InstanceID string
	Since      time.Time // inclusive
	Until      time.Time // exclusive
}

// An Actor identifies in the audit log who did something: "key:<id>", "user:<subject>",
// "sender:<identity id>", "command" or "system".
type Actor string

// System is the actor of what the gateway does on its own.
const System Actor = "system"

// An Event is one entry of the audit log. It must not contain codes, secrets or message text.
type Event struct {
	ID         string
	TenantID   string
	Kind       string // "claim.issued", "identity.linked", …
	Actor      Actor
	ActorName  string // of an API key or a member of staff; set when events are read
	CustomerID string
	IdentityID string
	InstanceID string
	MessageID  string
	Detail     map[string]string
	At         time.Time
}
