package adapters

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Errors of Receive. None says more than its name: an attacker reads nothing from
// them.
var (
	// ErrForged says that a request did not come from the channel, or was made for
	// another endpoint.
	ErrForged = errors.New("adapters: not signed by the channel for this endpoint")
	// ErrNoKey says that the endpoint has no key to check a request with.
	ErrNoKey = errors.New("adapters: endpoint has no key to check requests with")
	// ErrTooLarge says that the body is larger than the channel sends.
	ErrTooLarge = errors.New("adapters: body too large")
	// ErrMalformed says that an envelope cannot be read and cannot be kept either.
	ErrMalformed = errors.New("adapters: malformed request")
	// ErrUnknownWebhook says that the channel has no hook of this name.
	ErrUnknownWebhook = errors.New("adapters: no such hook")
)

// A Reason says why a channel did not take a reply. It is a metric label and a log
// field, so there are few and they are stable.
type Reason string

// The reasons. Only Unreachable, Throttled and Ambiguous are worth another try.
const (
	Unreachable Reason = "unreachable" // no answer, or a 5xx: not taken, try again
	Ambiguous   Reason = "ambiguous"   // cut off after the request left: it may have been taken
	Throttled   Reason = "throttled"   // the channel asks us to slow down: not taken, try again
	Refused     Reason = "refused"     // the channel understood and said no
	Blocked     Reason = "blocked"     // the person blocked us, left, or does not exist any more
	OptedOut    Reason = "opted_out"   // the person unsubscribed with the carrier
	Moved       Reason = "moved"       // the place has another id now: SendError.Place
	BadSecret   Reason = "bad_secret"  // our credentials are wrong: somebody must look
)

// A SendError is the only error Send returns.
type SendError struct {
	Reason     Reason
	Code       string        // the channel's own code, for the person reading the log
	RetryAfter time.Duration // what the channel asked for; zero when it did not say
	NewChatID  string        // the new place, when Moved
	Gone       bool          // the account or number does not exist any more: another person may get it
	Err        error         // never holds a URL, a token or a text
}

func (e *SendError) Error() string {
	return fmt.Sprintf("send: %s (%s): %v", e.Reason, e.Code, e.Err)
}

func (e *SendError) Unwrap() error { return e.Err }

// Retryable reports whether the same reply may be sent later.
func (e *SendError) Retryable() bool {
	return e.Reason == Unreachable || e.Reason == Throttled || e.Reason == Ambiguous || e.Reason == Moved
}

// ErrorFromStatus sorts an HTTP answer that says no more than its status; 2xx gives nil.
func ErrorFromStatus(status int, code string) *SendError {
	reason := Refused
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusTooManyRequests:
		reason = Throttled
	case status == http.StatusUnauthorized:
		reason = BadSecret
	case status/100 == 5:
		reason = Unreachable
	}
	return &SendError{Reason: reason, Code: code, Err: fmt.Errorf("status %d", status)}
}

// A SetupError says why an endpoint cannot be set up.
type SetupError struct {
	Reason  Reason // Unreachable and Throttled pass; BadSecret and Refused need another input
	Field   string // which input, by its name in the API: "bot_token", "phone_number", …; may be empty
	Message string // the provider's reason, for staff; never a secret
	Err     error
}

func (e *SetupError) Error() string { return fmt.Sprintf("set-up: %s: %s", e.Reason, e.Message) }

func (e *SetupError) Unwrap() error { return e.Err }

// Retryable reports whether the same set-up may work later.
func (e *SetupError) Retryable() bool { return e.Reason == Unreachable || e.Reason == Throttled }
