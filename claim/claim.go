// Package claim proves that the person on a channel is the customer staff is
// talking to: staff reads out a code, the person types "/claim CODE", and the
// identity is verified. It does not know how a channel works, nor how a database
// keeps its word.
package claim

import (
	"context"
	"errors"
	"time"
)

const (
	// CodeTTL is how long a code can be redeemed, by the database's clock.
	CodeTTL = 900 * time.Second
	// CodeGracePeriod is how much longer its proof is kept: the database decides expiry, and a
	// message received in time may be worked late.
	CodeGracePeriod = 120 * time.Second
	// MaxTries is how many wrong codes kill a live code.
	MaxTries = 5
)

// A Target is whose code it is, and which of their codes.
type Target struct {
	TenantID   string
	InstanceID string // empty: the identity holds for every instance of the tenant
	Channel    string
	ExternalID string
	IdentityID string
	Gen        int64 // counts the codes of one identity; the database hands it out
}

// CodeStore hold what proves a code, for its life and no longer, and never the code
// itself. They may lose everything at any time: the database decides who is
// granted, and what is lost is reported as lost, not as wrong.
type CodeStore interface {
	// Put keeps the proof of code for Life plus Grace. It replaces the proof of an
	// older generation of the same identity, and never that of a newer one.
	Put(ctx context.Context, s Target, code string) error

	// Check compares code with the proof of s and counts a wrong try in the same
	// step: of fifty callers at once at most MaxTries are compared. The same message
	// asked again counts once. It also looks for whom else code was made, in s's
	// instance or for the whole tenant. It consumes nothing, and makes the same calls
	// whatever it finds, for an identity without a code too. typedIn is the instance
	// that heard the code; message is the id of the message that held it.
	Check(ctx context.Context, s Target, typedIn, code, message string) (CheckResult, error)

	// Drop forgets the proof of s's generation.
	Drop(ctx context.Context, s Target) error
}

// A CheckResult is what Check found.
type CheckResult struct {
	Result Result
	Tries  int // wrong tries so far, this one included

	// Whose names the other identity that the code was made for, and its generation;
	// empty when there is none. It is a hint: the database may know better.
	OtherIdentityID string
	OtherGen        int64

	// Unsure says that nobody else's was found, and that not everything could be looked at.
	Incomplete bool
}

// A Result is the outcome of a comparison.
type Result string

// The verdicts. Missing: no proof is kept. Stale: the proof kept is of another
// generation than asked for. Locked: there were MaxTries wrong tries; nothing was
// compared.
const (
	Match   Result = "match"
	Wrong   Result = "wrong"
	Locked  Result = "locked"
	Missing Result = "missing"
	Stale   Result = "stale"
)

// Errors of a Desk.
var (
	// ErrTooManyCodes says that too many codes were issued; a *TooMany says when to go on.
	ErrTooManyCodes = errors.New("claim: too many codes issued")
	// ErrCodeStoreUnavailable says that the store of proofs does not answer.
	ErrCodeStoreUnavailable = errors.New("claim: proofs cannot be kept now")
)

// An IssuedCode is a code that was just made. The code is in here and nowhere else.
type IssuedCode struct {
	Code       string // six letters
	TenantID   string
	InstanceID string // empty: may be typed to any instance of the tenant
	Channel    string
	IdentityID string
	ExpiresAt  time.Time
}

// A TooManyCodesError says that an identity or a member of staff got too many codes.
type TooManyCodesError struct{ RetryAfter time.Duration }

func (e *TooManyCodesError) Error() string { return ErrTooManyCodes.Error() }

func (e *TooManyCodesError) Is(target error) bool { return target == ErrTooManyCodes }
