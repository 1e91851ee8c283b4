package operation

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// MissingScope returns a problem with status 403.
func MissingScope(scope string) *fastapi.Problem {
	return fastapi.NewProblem(http.StatusForbidden, "Missing scope: "+scope)
}

// TooManyRequests returns a problem with status 429 and the time after which to retry.
func TooManyRequests(wait time.Duration) *fastapi.Problem {
	p := fastapi.StatusProblem(http.StatusTooManyRequests)
	p.Header = http.Header{"Retry-After": {strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))}}
	return p
}

// NameNotFound replaces identity.ErrNotFound by a problem that names the resource. It returns other
// errors unchanged.
func NameNotFound(noun string, err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return fastapi.NotFound(noun)
	}
	return err
}

// DomainProblem returns the response to an error of the domain packages, or nil if the error is not
// the caller's fault.
func DomainProblem(err error) *fastapi.Problem {
	var p *fastapi.Problem
	var wait *claim.TooManyCodesError
	var setup *adapters.SetupError
	var taken *gateway.AddressTakenError
	switch {
	case errors.As(err, &p):
		return p
	case inviteProblem(err) != nil:
		return inviteProblem(err)
	case errors.Is(err, identity.ErrNotFound):
		return fastapi.StatusProblem(http.StatusNotFound)
	case errors.Is(err, identity.ErrNoInstance), errors.Is(err, gateway.ErrNoInstance):
		return fastapi.NotFound("Instance")
	case errors.As(err, &taken):
		return fastapi.NewProblem(http.StatusConflict, taken.Error())
	case errors.Is(err, gateway.ErrNoEndpoint):
		return fastapi.NewProblem(http.StatusNotFound, "Channel not configured")
	case errors.Is(err, identity.ErrAlreadyLinked):
		return fastapi.NewProblem(http.StatusConflict, "Identity is already linked to a customer")
	case errors.Is(err, identity.ErrEmailTaken):
		return fastapi.NewProblem(http.StatusConflict, "Another customer has this email")
	case errors.Is(err, identity.ErrUserExists):
		return fastapi.NewProblem(http.StatusBadRequest, "User already exists.")
	case errors.Is(err, identity.ErrAlreadyVerified):
		return fastapi.NewProblem(http.StatusConflict, "Identity is already verified")
	case errors.As(err, &wait):
		return TooManyRequests(wait.RetryAfter)
	case errors.Is(err, claim.ErrCodeStoreUnavailable), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, context.Canceled):
		return fastapi.StatusProblem(http.StatusServiceUnavailable)
	case errors.As(err, &setup) && setup.Retryable():
		return fastapi.StatusProblem(http.StatusServiceUnavailable)
	case errors.As(err, &setup):
		return setupProblem(setup)
	}
	return nil
}

// setupProblem returns the response to a set-up that the provider rejected.
func setupProblem(e *adapters.SetupError) *fastapi.Problem {
	loc := []any{"body"}
	if e.Field != "" {
		loc = append(loc, e.Field)
	}
	return fastapi.ValidationProblem(fastapi.Violation{Type: "value_error", Loc: loc, Msg: e.Message})
}

// IsUnavailable reports whether an error was caused by a dependency that is unavailable, so that
// the request may be repeated.
func IsUnavailable(err error) bool {
	var netErr net.Error
	var sqlErr interface{ SQLState() string }
	if errors.As(err, &sqlErr) {
		class := sqlErr.SQLState()[:2] // connection, resources or operator intervention
		return class == "08" || class == "53" || class == "57"
	}
	return errors.Is(err, gateway.ErrNoMasterKey) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr)
}

// inviteProblem returns the response to an error of invites, or nil for other errors.
func inviteProblem(err error) *fastapi.Problem {
	switch {
	case errors.Is(err, claim.ErrInvitesDisabled):
		return fastapi.ValidationProblem(fastapi.ValueError(
			"the instance does not allow invites by SMS or WhatsApp; set sms_invites to allow them", "body", "channel",
		))
	case errors.Is(err, claim.ErrTooManyInvites):
		return fastapi.NewProblem(http.StatusConflict, "Customer has 5 live invites; revoke one first")
	case errors.Is(err, claim.ErrOwnerExcluded):
		return fastapi.ValidationProblem(fastapi.ValueError(
			"the instance does not allow owners on this channel; see owner_channels", "body", "role_override",
		))
	case errors.Is(err, claim.ErrOwnerConfirmation):
		return fastapi.NewProblem(http.StatusConflict,
			"An owner of this customer must confirm new accounts; link the account and issue a claim code instead")
	case errors.Is(err, claim.ErrNotPending):
		return fastapi.NewProblem(http.StatusConflict, "Invite does not wait for confirmation; its state must be pending")
	case errors.Is(err, claim.ErrOpenerGone):
		return fastapi.NewProblem(http.StatusConflict,
			"The account that opened the invite was deleted or belongs to another customer; issue another invite")
	case errors.Is(err, claim.ErrInviteUsed):
		return fastapi.NewProblem(http.StatusConflict, "Invite was already used")
	}
	return nil
}
