package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
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
	"hydragate/identity"
)

// A problem is an answer that says no. It is the only thing that knows statuses and
// their shapes: a list of violations for 422, one sentence for everything else.
type problem struct {
	status     int
	detail     string
	violations []violation
	header     http.Header
	shape      func(*problem) any // of the body; nil: the native one
}

// A violation is one thing wrong with a request. It never holds what was sent.
type violation struct {
	Type string         `json:"type"`
	Loc  []any          `json:"loc"`
	Msg  string         `json:"msg"`
	Ctx  map[string]any `json:"ctx,omitempty"`
}

func (p *problem) Error() string  { return p.detail }
func (p *problem) GetStatus() int { return p.status }
func (p *problem) MarshalJSON() ([]byte, error) {
	if p.shape != nil {
		return encode(p.shape(p))
	}
	if p.violations != nil {
		return encode(map[string]any{"detail": p.violations})
	}
	return encode(map[string]any{"detail": p.detail})
}

// GetHeaders gives the headers that belong to the answer.
func (p *problem) GetHeaders() http.Header { return p.header }

func (p *problem) write(w http.ResponseWriter) {
	for k, v := range p.header {
		w.Header()[k] = v
	}
	body, _ := encode(p) // strings only: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_, _ = w.Write(body)
}

func plain(status int) *problem {
	return &problem{status: status, detail: http.StatusText(status)}
}

func refuse(status int, detail string) *problem { return &problem{status: status, detail: detail} }

func notFound(noun string) *problem { return refuse(http.StatusNotFound, noun+" not found") }

func invalid(vs ...violation) *problem {
	return &problem{status: http.StatusUnprocessableEntity, detail: "invalid request", violations: vs}
}

// valueError says what no schema can: reason is one of ours, in words for the caller.
func valueError(reason string, loc ...any) violation {
	return violation{Type: "value_error", Loc: loc, Msg: "Value error, " + reason}
}

func notAuthenticated() *problem {
	return &problem{status: http.StatusUnauthorized, detail: "Not authenticated", header: http.Header{"Www-Authenticate": {"Bearer"}}}
}

func missingScope(scope string) *problem {
	return refuse(http.StatusForbidden, "Missing scope: "+scope)
}

func tooMany(wait time.Duration) *problem {
	p := plain(http.StatusTooManyRequests)
	p.header = http.Header{"Retry-After": {strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))}}
	return p
}

// about gives err the noun of what was looked for, when it was not found.
func about(noun string, err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return notFound(noun)
	}
	return err
}

// asProblem finds the answer to an error; nil means that it is ours, not the
// caller's.
func asProblem(err error) *problem {
	var p *problem
	var wait *claim.TooMany
	var setup *adapters.SetupError
	switch {
	case errors.As(err, &p):
		return p
	case aboutInvites(err) != nil:
		return aboutInvites(err)
	case errors.Is(err, identity.ErrNotFound):
		return plain(http.StatusNotFound)
	case errors.Is(err, identity.ErrNoInstance), errors.Is(err, gateway.ErrNoInstance):
		return notFound("Instance")
	case errors.Is(err, gateway.ErrNoEndpoint):
		return refuse(http.StatusNotFound, "Channel not configured")
	case errors.Is(err, identity.ErrTaken):
		return refuse(http.StatusConflict, "Identity is already linked to a customer")
	case errors.Is(err, identity.ErrEmailTaken):
		return refuse(http.StatusConflict, "Another customer has this email")
	case errors.Is(err, ErrUserExists):
		return refuse(http.StatusBadRequest, "User already exists.")
	case errors.Is(err, identity.ErrVerified):
		return refuse(http.StatusConflict, "Identity is already verified")
	case errors.As(err, &wait):
		return tooMany(wait.RetryAfter)
	case errors.Is(err, claim.ErrNoProofs), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return plain(http.StatusServiceUnavailable)
	case errors.As(err, &setup) && setup.Again():
		return plain(http.StatusServiceUnavailable)
	case errors.As(err, &setup):
		return refusedBySetup(setup)
	}
	return nil
}

func refusedBySetup(e *adapters.SetupError) *problem {
	loc := []any{"body"}
	if e.Field != "" {
		loc = append(loc, e.Field)
	}
	return invalid(violation{Type: "value_error", Loc: loc, Msg: e.Message})
}

// fail turns any error into an answer, in the shape of the surface that is called.
// What nobody expected is logged here, with the id of the request, and not shown.
func (a *API) fail(ctx context.Context, err error) *problem {
	p := asProblem(err)
	if p == nil {
		a.Log.ErrorContext(ctx, "request failed", "request_id", recordOf(ctx).id, "err", err)
		p = plain(http.StatusInternalServerError)
		if away(err) {
			p = plain(http.StatusServiceUnavailable)
		}
	}
	return surfaceOf(ctx).shaped(p)
}

// away reports whether something behind the API cannot be reached, or read by this
// process, so that the same call is worth repeating.
func away(err error) bool {
	var ne net.Error
	var answer interface{ SQLState() string } // of a database that is starting, stopping or full
	if errors.As(err, &answer) {
		class := answer.SQLState()[:2]
		return class == "08" || class == "53" || class == "57"
	}
	return errors.Is(err, gateway.ErrNoMasterKey) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) || errors.Is(err, io.ErrUnexpectedEOF)
}

// encode writes JSON as the API does: without escaping for HTML and without a
// newline at the end.
func encode(v any) ([]byte, error) {
	var b lineless
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.bytes(), err
}

// lineless is a buffer that ends without the newline of json.Encoder.
type lineless struct{ bytes.Buffer }

func (b *lineless) bytes() []byte { return bytes.TrimSuffix(b.Bytes(), []byte("\n")) }
