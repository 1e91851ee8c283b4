package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// IdempotencyStore stores the responses of idempotent requests.
type IdempotencyStore interface {
	// ReserveIdempotencyKey reserves a key for the first request that uses it. That request gets
	// found == false and, in ResourceID, the ID of what it creates; it must end with SaveResponse
	// or ReleaseIdempotencyKey. Further requests get the saved response, whose Status is 0 until
	// there is one.
	ReserveIdempotencyKey(
		ctx context.Context, k gateway.IdempotencyKey,
	) (a gateway.StoredResponse, found bool, err error)
	SaveResponse(ctx context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error
	// ReleaseIdempotencyKey lets the request be repeated. The repeated request gets the same
	// ResourceID.
	ReleaseIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) error
}

const (
	replayPollInterval = 25 * time.Millisecond
	maxReplayWait      = 3 * time.Second
	storeTimeout       = 5 * time.Second
	callTimeout        = 30 * time.Second // of a request whose client may have disconnected
)

// runIdempotent handles a request, or replays the response of the first request with the same
// Idempotency-Key. The key has no effect on routes whose responses must not be stored.
func (a *API) runIdempotent(
	to *operation.Route, r *http.Request, in *operation.RequestContext, next func(huma.Context),
) {
	if !to.AcceptsIdempotencyKey() || r.Header.Get(operation.IdempotencyKey) == "" {
		next(in)
		return
	}
	_, w := humago.Unwrap(in.BaseContext)
	k := newIdempotencyKey(r, in)
	stored, first, err := a.claimOrWait(r.Context(), k)
	switch {
	case err != nil:
		a.responder.ProblemFor(r.Context(), err).Write(w)
	case first:
		a.runRecorded(r, in, k, stored.ResourceID, next)
	default:
		replay(w, stored)
	}
}

func newIdempotencyKey(r *http.Request, in *operation.RequestContext) gateway.IdempotencyKey {
	caller := operation.CallerOf(r.Context())
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(in.Body)} {
		_, _ = io.WriteString(h, part+"\x00")
	}
	return gateway.IdempotencyKey{
		TenantID: caller.TenantID, Principal: caller.ID, Key: r.Header.Get(operation.IdempotencyKey),
		Fingerprint: hex.EncodeToString(h.Sum(nil)),
	}
}

// claimOrWait reserves the key for this request and reports first == true, or waits for the
// response of the request that reserved it.
func (a *API) claimOrWait(
	ctx context.Context, k gateway.IdempotencyKey,
) (stored gateway.StoredResponse, first bool, err error) {
	timeout := time.NewTimer(a.replayWait)
	defer timeout.Stop()
	poll := time.NewTicker(replayPollInterval)
	defer poll.Stop()
	for {
		stored, found, err := a.claimKey(ctx, k)
		switch {
		case err != nil:
			return stored, false, err
		case !found:
			return stored, true, nil
		case stored.Fingerprint != k.Fingerprint:
			return stored, false, fastapi.ValidationProblem(fastapi.ValueError(
				"the key was already used for another request", "header", "idempotency-key",
			))
		case stored.Status != 0:
			return stored, false, nil
		}
		select {
		case <-poll.C:
		case <-timeout.C:
			return stored, false, &fastapi.Problem{
				Status: http.StatusConflict, Detail: "A request with this Idempotency-Key is still in progress",
				Header: http.Header{"Retry-After": {"1"}},
			}
		case <-ctx.Done():
			return stored, false, ctx.Err()
		}
	}
}

// claimKey reserves the key. It ignores the cancellation of ctx: if the client disconnected at that
// moment, the reservation might be stored without a request that releases it.
func (a *API) claimKey(
	ctx context.Context, k gateway.IdempotencyKey,
) (stored gateway.StoredResponse, found bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return a.Stores.Idempotency.ReserveIdempotencyKey(ctx, k)
}

// runRecorded handles a request and stores its response. It releases the key instead if a retry may
// have another result: after a 5xx or 429 response or a panic. The request continues if the client
// disconnects, because canceling it during the commit could leave the result unknown. The result is
// also unknown if the database connection is lost during the commit; therefore the ID of the
// created resource is assigned in advance, so that a retry finds it.
func (a *API) runRecorded(
	r *http.Request, in *operation.RequestContext, k gateway.IdempotencyKey, resource string, next func(huma.Context),
) {
	requestCtx, cancelRequest := context.WithTimeout(context.WithoutCancel(in.BaseContext.Context()), callTimeout)
	defer cancelRequest()
	requestCtx = context.WithValue(requestCtx, resourceIDKey{}, resource)
	rec := &recorder{BaseContext: in, ctx: requestCtx}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
		defer cancel()
		if err := a.storeOutcome(ctx, k, rec); err != nil {
			a.Log.ErrorContext(ctx, "store idempotent response failed",
				"request_id", operation.RequestInfoOf(ctx).ID, "error", err)
		}
	}()
	next(rec)
}

type resourceIDKey struct{}

// resourceID returns the ID for the resource that a request creates, or "" if the store should
// assign one.
func resourceID(ctx context.Context) string {
	id, _ := ctx.Value(resourceIDKey{}).(string)
	return id
}

// storeOutcome stores the response, or releases the key if a retry may have another result.
func (a *API) storeOutcome(ctx context.Context, k gateway.IdempotencyKey, rec *recorder) error {
	if rec.status == 0 || rec.status >= 500 || rec.status == http.StatusTooManyRequests {
		return a.Stores.Idempotency.ReleaseIdempotencyKey(ctx, k)
	}
	return a.Stores.Idempotency.SaveResponse(ctx, k, gateway.StoredResponse{
		Fingerprint: k.Fingerprint, Status: rec.status, Body: rec.body.Bytes(),
	})
}

// replay writes a stored response.
func replay(w http.ResponseWriter, stored gateway.StoredResponse) {
	w.Header().Set("Idempotency-Replayed", "true")
	if len(stored.Body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(stored.Status)
	_, _ = w.Write(stored.Body)
}

// A recorder records the response that it writes.
type recorder struct {
	operation.BaseContext
	ctx    context.Context //nolint:containedctx // returned by the method Context of huma.Context
	status int
	body   bytes.Buffer
}

// SetStatus implements huma.Context.
func (r *recorder) SetStatus(status int) {
	r.status = status
	r.BaseContext.SetStatus(status)
}

// Context returns the context of the request, which does not end when the client disconnects.
func (r *recorder) Context() context.Context { return r.ctx }

// Status implements huma.Context.
func (r *recorder) Status() int { return r.status }

// BodyWriter implements huma.Context.
func (r *recorder) BodyWriter() io.Writer { return io.MultiWriter(&r.body, r.BaseContext.BodyWriter()) }
