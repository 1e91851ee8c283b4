package identity

import "time"

// A VerificationPolicy states for how long an instance accepts a verification. Zero means
// without limit.
type VerificationPolicy struct {
	OwnerDays      int // days after which an owner is only a customer
	CustomerDays   int // days after which a verified identity is unverified
	InactivityDays int // days without a message after which a verified identity is unverified
}

// An ExpiryReason states why a verification has expired. The identity stays unverified until
// the account is claimed again.
type ExpiryReason string

// The reasons. All but ExpiredByAge are signs that a number or an account may have changed
// hands.
const (
	ExpiredByAge         ExpiryReason = "expired"   // it was too old when a new code was issued
	ExpiredByInactivity  ExpiryReason = "silence"   // a message arrived after a long period without one
	ExpiredByOptOut      ExpiryReason = "opted_out" // the carrier reported an opt-out
	ExpiredByTermination ExpiryReason = "gone"      // the number or account no longer exists
)

// An EffectiveRole is the role of an identity at a point in time.
type EffectiveRole struct {
	Role   Role
	Reason RoleReason // why Role is lower than Identity.Role; empty if it is not
}

// A RoleReason states why a role was lowered, as reported to applications.
type RoleReason string

// The reasons, as reported to applications.
const (
	VerificationExpired RoleReason = "verification_expired"
	MayHaveChangedHands RoleReason = "number_may_have_changed_hands"
)

// EffectiveRole returns the role of i at now. An owner whose verification is older than OwnerDays
// is a customer, and one whose verification is older than CustomerDays is unverified. An
// identity with an ExpiryReason is unverified.
func (p VerificationPolicy) EffectiveRole(i Identity, now time.Time) EffectiveRole {
	role := i.Role()
	switch {
	case role == Unknown:
		return EffectiveRole{Role: role}
	case i.ExpiryReason != "":
		return EffectiveRole{Unverified, i.ExpiryReason.roleReason()}
	case role == Owner && olderThan(i, p.OwnerDays, now) && !olderThan(i, p.CustomerDays, now):
		return EffectiveRole{Verified, VerificationExpired}
	case role == Owner && olderThan(i, p.OwnerDays, now), role == Verified && olderThan(i, p.CustomerDays, now):
		return EffectiveRole{Unverified, VerificationExpired}
	}
	return EffectiveRole{Role: role}
}

func olderThan(i Identity, days int, now time.Time) bool {
	return days > 0 && now.Sub(i.VerifiedAt) > time.Duration(days)*day
}

const day = 24 * time.Hour

func (r ExpiryReason) roleReason() RoleReason {
	if r == ExpiredByAge {
		return VerificationExpired
	}
	return MayHaveChangedHands
}

// LastSeenPrecision is the precision of Identity.LastSeenAt.
const LastSeenPrecision = time.Hour

// InactivityExceeded reports whether a message at now ends a period of inactivity that is longer
// than the policy allows. The period begins with the last message or the verification, whichever
// is later.
func (p VerificationPolicy) InactivityExceeded(i Identity, now time.Time) bool {
	if p.InactivityDays == 0 || !i.IsVerified() || i.LastSeenAt.IsZero() {
		return false
	}
	last := i.LastSeenAt
	if i.VerifiedAt.After(last) {
		last = i.VerifiedAt
	}
	return now.Sub(last) > time.Duration(p.InactivityDays)*day+LastSeenPrecision
}
