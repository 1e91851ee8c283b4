package identity

import (
	"time"
)

// A VerificationPolicy says how long an instance believes a verification. Zero days: for ever.
type VerificationPolicy struct {
	OwnerDays      int // as an owner's; then it counts as a customer's
	CustomerDays   int // as a customer's; then it does not count
	InactivityDays int // without a message
}

// A ExpiryReason is why a verification is not believed any more until the account is claimed
// again.
type ExpiryReason string

// The doubts. All but Expired are signs that a number or an account may have changed
// hands.
const (
	ExpiredByAge         ExpiryReason = "expired"   // it was too old when a new code was issued
	ExpiredByInactivity  ExpiryReason = "silence"   // a message came after a long silence
	ExpiredByOptOut      ExpiryReason = "opted_out" // the carrier says that its subscriber opted out
	ExpiredByTermination ExpiryReason = "gone"      // the number or account does not exist any more
)

// A EffectiveRole is the right with which somebody speaks now.
type EffectiveRole struct {
	Role   Role
	Reason RoleReason // why it is lower than it was; empty: it is not
}

// A RoleReason says why a role was lowered, as the agent runtime is told.
type RoleReason string

// The reasons.
const (
	VerificationExpired RoleReason = "verification_expired"
	MayHaveChangedHands RoleReason = "number_may_have_changed_hands"
)

// EffectiveRole gives the right with which i speaks at now. It is the one place that knows
// what becomes of a verification: by age an owner is a customer, and a customer is
// unverified; by a doubt everybody is unverified.
func (f VerificationPolicy) EffectiveRole(i Identity, now time.Time) EffectiveRole {
	role := i.Role()
	switch {
	case role == Unknown:
		return EffectiveRole{Role: role}
	case i.ExpiryReason != "":
		return EffectiveRole{Unverified, i.ExpiryReason.roleReason()}
	case role == Owner && olderThan(i, f.OwnerDays, now) && !olderThan(i, f.CustomerDays, now):
		return EffectiveRole{Verified, VerificationExpired}
	case role == Owner && olderThan(i, f.OwnerDays, now), role == Verified && olderThan(i, f.CustomerDays, now):
		return EffectiveRole{Unverified, VerificationExpired}
	}
	return EffectiveRole{Role: role}
}

func olderThan(i Identity, days int, now time.Time) bool {
	return days > 0 && now.Sub(i.VerifiedAt) > time.Duration(days)*day
}

const day = 24 * time.Hour

func (d ExpiryReason) roleReason() RoleReason {
	if d == ExpiredByAge {
		return VerificationExpired
	}
	return MayHaveChangedHands
}

// LastSeenPrecision is how exact it is known when somebody last wrote.
const LastSeenPrecision = time.Hour

// InactivityExceeded reports whether a message at now breaks a silence that is too long: since the
// last message, or since the verification when that is later.
func (f VerificationPolicy) InactivityExceeded(i Identity, now time.Time) bool {
	if f.InactivityDays == 0 || !i.IsVerified() || i.LastSeenAt.IsZero() {
		return false
	}
	last := i.LastSeenAt
	if i.VerifiedAt.After(last) {
		last = i.VerifiedAt
	}
	return now.Sub(last) > time.Duration(f.InactivityDays)*day+LastSeenPrecision
}
