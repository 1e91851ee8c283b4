// Package identity defines tenants, customers, identities and roles, and the rules they obey.
//
// A customer has one identity for each account on a channel. The package does not store
// anything, and knows neither claims nor how a channel works.
package identity

import (
	"encoding/json"
	"errors"
	"time"
)

// DefaultTenant is the ID of the tenant that every new database contains, named "default".
const DefaultTenant = "00000000-0000-7000-8000-000000000001"

// Errors returned by stores of customers and identities.
var (
	// ErrNotFound is returned if a row does not exist or belongs to another tenant or customer.
	ErrNotFound = errors.New("identity: not found")
	// ErrAlreadyLinked is returned if a customer already has an identity with this channel and
	// external ID in this scope.
	ErrAlreadyLinked = errors.New("identity: already linked")
	// ErrEmailTaken is returned if another customer of the tenant has the e-mail address.
	ErrEmailTaken = errors.New("identity: e-mail already in use")
	// ErrAlreadyVerified is returned if an identity is already verified.
	ErrAlreadyVerified = errors.New("identity: already verified")
	// ErrNoInstance is returned if the tenant has no such instance.
	ErrNoInstance = errors.New("identity: no such instance")
)

// RoleOwner is the only role that staff or a claim can grant.
const RoleOwner = "owner"

// A Role is the role of a sender, as reported to applications.
type Role string

// The roles, as reported to applications.
const (
	Owner      Role = "owner"      // verified, and RoleOverride is RoleOwner
	Verified   Role = "customer"   // verified
	Unverified Role = "unverified" // linked to a customer, but not verified
	Unknown    Role = "unknown"    // not linked to a customer
)

// An Identity is one external account on one channel. It belongs to a customer, or to none if
// it is that of an unknown sender.
type Identity struct {
	ID           string
	TenantID     string
	CustomerID   string // empty if the sender is unknown
	InstanceID   string // empty if the identity is valid for all instances of the tenant
	Channel      string
	ExternalID   string   // normalized; see Normalize
	Aliases      []string // other IDs of the same account; not always read
	DisplayName  string   // shown to staff, never matched
	Username     string   // shown to staff, never matched
	RoleOverride string   // RoleOwner, or empty
	Metadata     json.RawMessage
	VerifiedAt   time.Time    // zero if not verified
	ExpiryReason ExpiryReason // why the verification no longer counts; empty if it does
	LastSeenAt   time.Time    // accurate to LastSeenPrecision; zero if unknown
	OptedOutAt   time.Time    // zero if the person has not opted out
	BlockedAt    time.Time    // zero if the identity is reachable
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// A Key identifies an identity of a customer.
type Key struct {
	TenantID   string
	CustomerID string
	IdentityID string
}

// A Query selects the identities of a customer.
type Query struct {
	TenantID   string
	CustomerID string
	Channel    string // empty for all channels
}

// A SenderKey identifies an identity, with or without a customer. If InstanceID is not empty, the
// identity must belong to that instance.
type SenderKey struct {
	TenantID   string
	InstanceID string
	IdentityID string
}

// A SenderQuery selects a page of unknown senders by ID.
type SenderQuery struct {
	TenantID   string
	InstanceID string // empty for all instances
	After      string // ID of the last sender of the previous page
	Limit      int
}

// IsVerified reports whether the identity has been verified. The verification may have expired;
// see VerificationPolicy.
func (i Identity) IsVerified() bool { return !i.VerifiedAt.IsZero() }

// IsOptedOut reports whether the person opted out of messages.
func (i Identity) IsOptedOut() bool { return !i.OptedOutAt.IsZero() }

// Role returns the role of the identity, without regard to the age of its verification. The
// role of the zero Identity is Unknown.
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

// An Address identifies an account on a channel in the scope of one instance, or of all
// instances if InstanceID is empty.
type Address struct {
	TenantID, InstanceID, Channel, ExternalID string
}

// An Edit changes fields of an identity. A nil field stays unchanged; a pointer to the zero
// value clears it.
type Edit struct {
	DisplayName  *string
	RoleOverride *string
	Metadata     *json.RawMessage
	Verified     *bool
}

// Apply returns i with the edit applied. Verifying an identity that is already verified keeps
// the time of the first verification, unless that verification has expired.
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
