package adapters

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Errors of Adapter.Receive. Their texts contain no details that help an attacker.
var (
	// ErrForged means that the channel did not make the request, or made it for another endpoint.
	ErrForged = errors.New("adapters: not signed by the channel for this endpoint")

	// ErrNoKey means that the endpoint has no key to authenticate the request.
	ErrNoKey = errors.New("adapters: endpoint has no key to check requests with")

	// ErrTooLarge means that the body exceeds the limit of the channel.
	ErrTooLarge = errors.New("adapters: body too large")

	// ErrMalformed means that the envelope can neither be decoded nor stored as Undecodable.
	ErrMalformed = errors.New("adapters: malformed request")

	// ErrUnknownWebhook means that the channel has no webhook of this name.
	ErrUnknownWebhook = errors.New("adapters: no such webhook")

	// ErrStale is an ErrForged for a request whose timestamp is too far from the current time.
	ErrStale = fmt.Errorf("%w: timestamp too far from the current time", ErrForged)

	// ErrOtherEndpoint is an ErrForged for a request that is signed, but for another address.
	ErrOtherEndpoint = fmt.Errorf("%w: addressed to another endpoint", ErrForged)
)

// RefusalReason returns why Receive rejected a request, as a metric label and a log field. The set is
// closed. It is "unavailable" if err is none of the errors above.
func RefusalReason(err error) string {
	for _, r := range []struct {
		err    error
		reason string
	}{
		{ErrStale, "stale"},
		{ErrOtherEndpoint, "not_for_this_endpoint"},
		{ErrForged, "signature"},
		{ErrNoKey, "no_key"},
		{ErrTooLarge, "too_large"},
		{ErrMalformed, "malformed"},
		{ErrUnknownWebhook, "unknown_webhook"},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return "unavailable"
}

// A Reason says why a channel did not accept a reply. It is a metric label and a log field, so the
// set is small and stable.
type Reason string

// The reasons. SendError.Retryable reports which of them are retried.
const (
	Unreachable Reason = "unreachable" // no response, or a 5xx status: not accepted
	Ambiguous   Reason = "ambiguous"   // the connection broke after the request was sent: it may have been accepted
	Throttled   Reason = "throttled"   // rate limited by the channel: not accepted
	Refused     Reason = "refused"     // rejected by the channel
	TooLong     Reason = "too_long"    // rejected by the channel because of its length: smaller parts may be accepted
	Blocked     Reason = "blocked"     // the person blocked the bot, left, or no longer exists
	OptedOut    Reason = "opted_out"   // the person unsubscribed at the carrier
	Moved       Reason = "moved"       // the chat has another ID now: SendError.NewChatID
	BadSecret   Reason = "bad_secret"  // the credentials were rejected: staff must act
	Conflict    Reason = "conflict"    // another program receives the messages of the same bot
)

// A SendError is the only type of error that Adapter.Send returns.
type SendError struct {
	Reason     Reason
	Code       string        // the channel's error code, for logs
	RetryAfter time.Duration // delay that the channel asked for, or zero
	NewChatID  string        // set if Reason is Moved
	Gone       bool          // the account or number no longer exists and may be reassigned to another person
	Err        error         // must not contain a URL, a secret or a message text
}

// Error returns the reason, the code and the cause.
func (e *SendError) Error() string {
	return fmt.Sprintf("send: %s (%s): %v", e.Reason, e.Code, e.Err)
}

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Retryable reports whether the same reply may be sent later.
func (e *SendError) Retryable() bool {
	return e.Reason == Unreachable || e.Reason == Throttled || e.Reason == Ambiguous || e.Reason == Moved
}

// ErrorFromStatus returns the SendError of an HTTP response without further details, or nil if status
// is 2xx.
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
	Reason     Reason        // Unreachable and Throttled are temporary; BadSecret and Refused need other input
	Field      string        // name of the invalid field in the API, such as "bot_token"; may be empty
	Message    string        // the provider's explanation, for staff; must not contain a secret
	RetryAfter time.Duration // delay that the provider asked for, or zero
	Optional   bool          // the endpoint works without what failed: a warning, not a fault
	Err        error
}

// Error returns the reason and the provider's explanation.
func (e *SetupError) Error() string { return fmt.Sprintf("set-up: %s: %s", e.Reason, e.Message) }

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// Retryable reports whether the same set-up may succeed later.
func (e *SetupError) Retryable() bool { return e.Reason == Unreachable || e.Reason == Throttled }
