package operation

import (
	"context"
	"log/slog"
	"net/http"

	"hydragate/httpapi/fastapi"
)

// A Responder writes the responses of operations that return errors or streams.
type Responder struct{ Log *slog.Logger }

// ProblemFor returns the response to an error, in the format of the requested surface. An error
// that is not the caller's fault is logged with the request ID and not disclosed.
func (rs *Responder) ProblemFor(ctx context.Context, err error) *fastapi.Problem {
	p := DomainProblem(err)
	if p == nil {
		rs.Log.ErrorContext(ctx, "request failed", "request_id", RequestInfoOf(ctx).ID, "error", err)
		p = fastapi.StatusProblem(http.StatusInternalServerError)
		if IsUnavailable(err) {
			p = fastapi.StatusProblem(http.StatusServiceUnavailable)
		}
	}
	return SurfaceOf(ctx).AdaptProblem(p)
}
