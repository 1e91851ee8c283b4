// Package identity answers one question: who is this?
//
// A customer is known by many identities, one for each account on a channel. The
// package holds the types and the rules they obey; it does not know where they are
// kept, what a claim is, or how a channel works.
package identity

import (
	"encoding/json"
	"errors"
	"time"
)

// DefaultTenant is the tenant of a fresh database, named "default".
const DefaultTenant = "00000000-0000-7000-8000-000000000001"

// Errors of everything that keeps customers and identities.
var (
	// ErrNotFound says no such row, or one of somebody else's.
	ErrNotFound = errors.New("identity: not found")
	// ErrAlreadyLinked says that a customer already has this channel and external id in this scope.
	ErrAlreadyLinked = errors.New("identity: already linked")
	// ErrEmailTaken says that another customer of the tenant has this e-mail address.
	ErrEmailTaken = errors.New("identity: e-mail already in use")
	// ErrAlreadyVerified says that an identity is verified already.
	ErrAlreadyVerified = errors.New("identity: already verified")
	// ErrNoInstance says that the instance named does not exist in the tenant.
	ErrNoInstance = errors.New("identity: no such instance")
)

// RoleOwner is the only role that can be given by hand or by a claim.
const RoleOwner = "owner"

// A Role says with what right somebody speaks.
type Role string

// The roles an agent runtime is told.
const (
	Owner      Role = "owner"      // verified, with the override
	Verified   Role = "customer"   // verified
	Unverified Role = "unverified" // linked to a customer, not proven
	Unknown    Role = "unknown"    // linked to nobody
)

// An Identity is one external account on one channel. It belongs to a customer, or
// to nobody yet: an unknown sender.
type Identity struct {
	ID           string
	TenantID     string
	CustomerID   string // empty: an unknown sender
	InstanceID   string // empty: every instance of the tenant
	Channel      string
	ExternalID   string // normalised, see Normalise
	DisplayName  string // for staff to read; never matched
	Username     string // likewise
	RoleOverride string // RoleOwner or empty
	Metadata     json.RawMessage
	VerifiedAt   time.Time    // zero: not verified
	ExpiryReason ExpiryReason // why the verification is not believed; empty: it is
	LastSeenAt   time.Time    // more or less; zero: not known
	OptedOutAt   time.Time    // zero: may be written to
	BlockedAt    time.Time    // zero: reachable
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// IsVerified reports whether somebody proved to be behind the account.
func (i Identity) IsVerified() bool { return !i.VerifiedAt.IsZero() }

// Role says with what right the identity speaks. The zero Identity is Unknown.
func (i Identity) Role() Role {
	switch {
	case i.CustomerID == "":
		return Unknown
	case !i.IsVerified():
		return Unverified
	case i.RoleOverride == RoleOwner:
		return Owner
	}
	return Verified
}

// An Address is how a channel names a person to one instance.
type Address struct {
	TenantID, InstanceID, Channel, ExternalID string
}

// An Edit changes some fields of an identity; nil leaves a field as it is, and a
// pointer to the zero value clears it.
type Edit struct {
	DisplayName  *string
	RoleOverride *string
	Metadata     *json.RawMessage
	Verified     *bool
}

// Apply gives i as it is after the edit. It is the one place that knows what
// verifying and unverifying by hand mean: the time of the first proof stays, unless
// that proof is in doubt.
func (i Identity) Apply(e Edit, now time.Time) Identity {
	if e.DisplayName != nil {
		i.DisplayName = *e.DisplayName
	}
	if e.RoleOverride != nil {
		i.RoleOverride = *e.RoleOverride
	}
	if e.Metadata != nil {
		i.Metadata = *e.Metadata
	}
	switch {
	case e.Verified == nil:
	case !*e.Verified:
		i.VerifiedAt, i.ExpiryReason = time.Time{}, ""
	case !i.IsVerified() || i.ExpiryReason != "":
		i.VerifiedAt, i.ExpiryReason = now, ""
	}
	i.UpdatedAt = now
	return i
}
