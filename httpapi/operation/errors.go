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

func MissingScope(scope string) *fastapi.Problem {
	return fastapi.NewProblem(http.StatusForbidden, "Missing scope: "+scope)
}

func TooManyRequests(wait time.Duration) *fastapi.Problem {
	p := fastapi.StatusProblem(http.StatusTooManyRequests)
	p.Header = http.Header{"Retry-After": {strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))}}
	return p
}

// NameNotFound gives err the noun of what was looked for, when it was not found.
func NameNotFound(noun string, err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return fastapi.NotFound(noun)
	}
	return err
}

// DomainProblem finds the answer to an error; nil means that it is ours, not the
// caller's.
func DomainProblem(err error) *fastapi.Problem {
	var p *fastapi.Problem
	var wait *claim.TooManyCodesError
	var setup *adapters.SetupError
	switch {
	case errors.As(err, &p):
		return p
	case inviteProblem(err) != nil:
		return inviteProblem(err)
	case errors.Is(err, identity.ErrNotFound):
		return fastapi.StatusProblem(http.StatusNotFound)
	case errors.Is(err, identity.ErrNoInstance), errors.Is(err, gateway.ErrNoInstance):
		return fastapi.NotFound("Instance")
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
	case errors.Is(err, claim.ErrCodeStoreUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fastapi.StatusProblem(http.StatusServiceUnavailable)
	case errors.As(err, &setup) && setup.Retryable():
		return fastapi.StatusProblem(http.StatusServiceUnavailable)
	case errors.As(err, &setup):
		return setupProblem(setup)
	}
	return nil
}

func setupProblem(e *adapters.SetupError) *fastapi.Problem {
	loc := []any{"body"}
	if e.Field != "" {
		loc = append(loc, e.Field)
	}
	return fastapi.ValidationProblem(fastapi.Violation{Type: "value_error", Loc: loc, Msg: e.Message})
}

// IsUnavailable reports whether something behind the API cannot be reached, or read by this
// process, so that the same call is worth repeating.
func IsUnavailable(err error) bool {
	var ne net.Error
	var answer interface{ SQLState() string } // of a database that is starting, stopping or full
	if errors.As(err, &answer) {
		class := answer.SQLState()[:2]
		return class == "08" || class == "53" || class == "57"
	}
	return errors.Is(err, gateway.ErrNoMasterKey) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) || errors.Is(err, io.ErrUnexpectedEOF)
}

// inviteProblem finds the answer to an error of invites; nil for any other.
func inviteProblem(err error) *fastapi.Problem {
	switch {
	case errors.Is(err, claim.ErrInvitesDisabled):
		return fastapi.ValidationProblem(fastapi.ValueError("the instance does not allow invites by SMS or WhatsApp; set sms_invites to allow them", "body", "channel"))
	case errors.Is(err, claim.ErrTooManyInvites):
		return fastapi.NewProblem(http.StatusConflict, "Customer has 5 live invites; revoke one first")
	case errors.Is(err, claim.ErrInviteUsed):
		return fastapi.NewProblem(http.StatusConflict, "Invite was already used")
	}
	return nil
}
