package identity

import "time"

// A Freshness says how long an instance believes a verification. Zero days: for ever.
type Freshness struct {
	OwnerDays    int // as an owner's; then it counts as a customer's
	CustomerDays int // as a customer's; then it does not count
	SilenceDays  int // without a message
}

// A Doubt is why a verification is not believed any more until the account is claimed
// again.
type Doubt string

// The doubts. All but Expired are signs that a number or an account may have changed
// hands.
const (
	Expired    Doubt = "expired"   // it was too old when a new code was issued
	Silent     Doubt = "silence"   // a message came after a long silence
	Unwanted   Doubt = "opted_out" // the carrier says that its subscriber opted out
	Terminated Doubt = "gone"      // the number or account does not exist any more
)

// A Standing is the right with which somebody speaks now.
type Standing struct {
	Role   Role
	Reason Reason // why it is lower than it was; empty: it is not
}

// A Reason says why a role was lowered, as the agent runtime is told.
type Reason string

// The reasons.
const (
	VerificationExpired Reason = "verification_expired"
	MayHaveChangedHands Reason = "number_may_have_changed_hands"
)

// Standing gives the right with which i speaks at now. It is the one place that knows
// what becomes of a verification: by age an owner is a customer, and a customer is
// unverified; by a doubt everybody is unverified.
func (f Freshness) Standing(i Identity, now time.Time) Standing {
	role := i.Role()
	switch {
	case role == Unknown:
		return Standing{Role: role}
	case i.Doubt != "":
		return Standing{Unverified, i.Doubt.reason()}
	case role == Owner && past(i, f.OwnerDays, now) && !past(i, f.CustomerDays, now):
		return Standing{Verified, VerificationExpired}
	case role == Owner && past(i, f.OwnerDays, now), role == Verified && past(i, f.CustomerDays, now):
		return Standing{Unverified, VerificationExpired}
	}
	return Standing{Role: role}
}

func past(i Identity, days int, now time.Time) bool {
	return days > 0 && now.Sub(i.VerifiedAt) > time.Duration(days)*day
}

const day = 24 * time.Hour

func (d Doubt) reason() Reason {
	if d == Expired {
		return VerificationExpired
	}
	return MayHaveChangedHands
}

// Heard is how exact it is known when somebody last wrote.
const Heard = time.Hour

// Broken reports whether a message at now breaks a silence that is too long: since the
// last message, or since the verification when that is later.
func (f Freshness) Broken(i Identity, now time.Time) bool {
	if f.SilenceDays == 0 || !i.IsVerified() || i.LastHeardAt.IsZero() {
		return false
	}
	last := i.LastHeardAt
	if i.VerifiedAt.After(last) {
		last = i.VerifiedAt
	}
	return now.Sub(last) > time.Duration(f.SilenceDays)*day+Heard
}
