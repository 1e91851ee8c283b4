// Package claim verifies that the sender on a channel is the customer whom staff are talking to.
// Staff read out a code, the person types "/claim CODE", and the identity is verified.
//
// The package decides; it does not store anything and does not know how a channel works.
package claim

import (
	"context"
	"errors"
	"time"
)

const (
	// CodeTTL is the time for which a code can be redeemed, by the database's clock.
	CodeTTL = 900 * time.Second
	// CodeGracePeriod is the additional time for which the code store keeps a code, because a
	// message that was received in time may be processed late. The database decides expiry.
	CodeGracePeriod = 120 * time.Second
	// MaxTries is the number of wrong codes that revoke a live code.
	MaxTries = 5
)

// A Target identifies one code: the identity it was issued for, and its generation.
type Target struct {
	TenantID   string
	InstanceID string // empty if the identity is valid for all instances of the tenant
	Channel    string
	ExternalID string
	IdentityID string
	Gen        int64 // number of the code among those of the identity, assigned by the database
}

// A CodeStore keeps a keyed hash of each code for its lifetime, never the code itself. It may lose
// its data at any time: the database decides who is verified, and a code that was lost is reported
// as lost, not as wrong.
type CodeStore interface {
	// Put stores the hash of code for CodeTTL plus CodeGracePeriod. It replaces the hash of an
	// older generation of the same identity, and never that of a newer one.
	Put(ctx context.Context, s Target, code string) error

	// Check compares code with the stored code of s and, in the same step, counts a wrong try. Of
	// any number of concurrent calls at most MaxTries are compared. A repeated call for the same
	// message counts once.
	//
	// Check also looks for another identity that code was issued for, on the channel of s, in typedIn or
	// for the whole tenant. It consumes nothing, and makes the same calls whatever it finds, even for an
	// identity without a code. typedIn is the instance that received the code, and message the ID
	// of the message that contained it.
	Check(ctx context.Context, s Target, typedIn, code, message string) (CheckResult, error)

	// Peek compares code with the stored code of s. It counts nothing, and ignores what was counted.
	Peek(ctx context.Context, s Target, code string) (Result, error)

	// Find returns the targets of those of codes that are stored for the instance of s or its whole
	// tenant, on any channel, by code. It finds every code until it is dropped, replaced or expired, and
	// counts nothing. The targets have no ExternalID, and the database may have newer information.
	Find(ctx context.Context, s Target, codes []string) (map[string]Target, error)

	// Drop deletes the code of s, if s is the current generation.
	Drop(ctx context.Context, s Target) error
}

// A CheckResult is the result of CodeStore.Check.
type CheckResult struct {
	Result Result
	Tries  int // wrong codes so far, including this one

	// Other is the target of another identity that the code was issued for, without its ExternalID.
	// It is zero if there is none. The database may have newer information.
	Other Target
}

// A Result is the result of comparing a code.
type Result string

// The results of comparing a code.
const (
	Match   Result = "match"
	Wrong   Result = "wrong"
	Locked  Result = "locked"  // not compared, because there were MaxTries wrong codes
	Missing Result = "missing" // no code is stored
	Stale   Result = "stale"   // the stored code is of another generation
)

// Errors returned by a Service.
var (
	// ErrTooManyCodes is returned if too many codes were issued. The error is a
	// *TooManyCodesError, which states when to retry.
	ErrTooManyCodes = errors.New("claim: too many codes issued")
	// ErrCodeStoreUnavailable is returned if the code store does not respond.
	ErrCodeStoreUnavailable = errors.New("claim: code store unavailable")
)

// An IssuedCode is a newly issued code. The code itself is stored nowhere else.
type IssuedCode struct {
	Code       string // six letters
	TenantID   string
	InstanceID string // empty if the code can be redeemed at any instance of the tenant
	Channel    string
	IdentityID string
	ExpiresAt  time.Time
}

// A TooManyCodesError reports that too many codes were issued for an identity or by a staff
// member.
type TooManyCodesError struct{ RetryAfter time.Duration }

// Error returns the text of ErrTooManyCodes.
func (e *TooManyCodesError) Error() string { return ErrTooManyCodes.Error() }

// Is reports whether target is ErrTooManyCodes.
func (e *TooManyCodesError) Is(target error) bool { return target == ErrTooManyCodes }
