package identity

import (
	"time"
)

// An EventQuery selects events of the audit log. Filters that are zero select
// everything; all others must hold.
type EventQuery struct {
	Kind       string
	Actor      Actor
	CustomerID string
	IdentityID string
	InstanceID string
	Since      time.Time // from here on
	Until      time.Time // before this
}

// An Actor is who does something, for the audit log: "key:<id>", "user:<subject>",
// "sender:<identity id>", "command" or "system".
type Actor string

// System is the actor of what the gateway does by itself.
const System Actor = "system"

// An Event is one line of the audit log. It holds no code, no secret and no message
// text.
type Event struct {
	ID         string
	TenantID   string
	Kind       string // "claim.issued", "identity.linked", …
	Actor      Actor
	CustomerID string
	IdentityID string
	InstanceID string
	MessageID  string
	Detail     map[string]string
	At         time.Time
}
