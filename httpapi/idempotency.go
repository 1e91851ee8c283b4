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
	// ReserveIdempotencyKey reserves a key for the first request that uses it. That request gets found == false and, in
	// ResourceID, the ID of what it creates; it must end with SaveResponse or ReleaseIdempotencyKey. Further requests
	// get the saved response, whose Status is 0 until there is one.
	ReserveIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) (a gateway.StoredResponse, found bool, err error)
	SaveResponse(ctx context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error
	// ReleaseIdempotencyKey lets the request be repeated. The repeated request gets the same ResourceID.
	ReleaseIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) error
}

const (
	replayPollInterval = 25 * time.Millisecond
	maxReplayWait      = 3 * time.Second
	storeTimeout       = 5 * time.Second
	callTimeout        = 30 * time.Second // a call, though its caller may have gone
)

// runIdempotent runs a call, or gives the answer of the same call made before. A call without
// Idempotency-Key just runs, and so does one whose answer must not be kept.
func (a *API) runIdempotent(to *operation.Route, r *http.Request, in *operation.RequestContext, next func(huma.Context)) {
	if !to.AcceptsIdempotencyKey() || r.Header.Get(operation.IdempotencyKey) == "" {
		next(in)
		return
	}
	_, w := humago.Unwrap(in.BaseContext)
	k := newIdempotencyKey(r, in)
	kept, first, err := a.claimOrWait(r.Context(), k)
	switch {
	case err != nil:
		a.responder.ProblemFor(r.Context(), err).Write(w)
	case first:
		a.runRecorded(r, in, k, kept.ResourceID, next)
	default:
		replay(w, kept)
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

// claimOrWait claims the key, or waits a little for the answer of who did.
func (a *API) claimOrWait(ctx context.Context, k gateway.IdempotencyKey) (kept gateway.StoredResponse, first bool, err error) {
	patience := time.NewTimer(a.replayWait)
	defer patience.Stop()
	again := time.NewTicker(replayPollInterval)
	defer again.Stop()
	for {
		kept, found, err := a.claimKey(ctx, k)
		switch {
		case err != nil:
			return kept, false, err
		case !found:
			return kept, true, nil
		case kept.Fingerprint != k.Fingerprint:
			return kept, false, fastapi.ValidationProblem(fastapi.ValueError("the key was already used for another request", "header", "idempotency-key"))
		case kept.Status != 0:
			return kept, false, nil
		}
		select {
		case <-again.C:
		case <-patience.C:
			return kept, false, &fastapi.Problem{
				Status: http.StatusConflict, Detail: "A request with this Idempotency-Key is still in progress",
				Header: http.Header{"Retry-After": {"1"}},
			}
		case <-ctx.Done():
			return kept, false, ctx.Err()
		}
	}
}

// claimKey claims the key, whether or not the caller waits for it: a caller who hangs up in
// that moment would leave a claim behind that nobody knows of and nobody ends.
func (a *API) claimKey(ctx context.Context, k gateway.IdempotencyKey) (kept gateway.StoredResponse, found bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return a.Stores.Idempotency.ReserveIdempotencyKey(ctx, k)
}

// runRecorded runs a call and keeps its answer, unless the same call may end
// otherwise: after a failure of ours, a refusal for now, or a panic. A caller who hangs
// up does not end it: broken off while it is committed, it could have happened and be
// taken for a failure. A database that is lost in that moment leaves no other word
// either; so what the call creates has its id before, and made again it is that.
func (a *API) runRecorded(r *http.Request, in *operation.RequestContext, k gateway.IdempotencyKey, makes string, next func(huma.Context)) {
	work, done := context.WithTimeout(context.WithoutCancel(in.BaseContext.Context()), callTimeout)
	defer done()
	work = context.WithValue(work, resourceIDKey{}, makes)
	heard := &recorder{BaseContext: in, ctx: work}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
		defer cancel()
		if err := a.storeOutcome(ctx, k, heard); err != nil {
			a.Log.ErrorContext(ctx, "keep answer of idempotent call", "request_id", operation.RequestInfoOf(ctx).ID, "err", err)
		}
	}()
	next(heard)
}

type resourceIDKey struct{}

// resourceID gives the id of what a call creates; "" leaves it to the store.
func resourceID(ctx context.Context) string {
	id, _ := ctx.Value(resourceIDKey{}).(string)
	return id
}

func (a *API) storeOutcome(ctx context.Context, k gateway.IdempotencyKey, heard *recorder) error {
	if heard.status == 0 || heard.status >= 500 || heard.status == http.StatusTooManyRequests {
		return a.Stores.Idempotency.ReleaseIdempotencyKey(ctx, k)
	}
	return a.Stores.Idempotency.SaveResponse(ctx, k, gateway.StoredResponse{Fingerprint: k.Fingerprint, Status: heard.status, Body: heard.body.Bytes()})
}

func replay(w http.ResponseWriter, kept gateway.StoredResponse) {
	w.Header().Set("Idempotency-Replayed", "true")
	if len(kept.Body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(kept.Status)
	_, _ = w.Write(kept.Body)
}

// A recorder writes an answer through and remembers it.
type recorder struct {
	operation.BaseContext
	ctx    context.Context
	status int
	body   bytes.Buffer
}

func (t *recorder) SetStatus(status int) {
	t.status = status
	t.BaseContext.SetStatus(status)
}

// Context is the time that the call has, whatever becomes of its caller.
func (t *recorder) Context() context.Context { return t.ctx }

func (t *recorder) Status() int { return t.status }

func (t *recorder) BodyWriter() io.Writer { return io.MultiWriter(&t.body, t.BaseContext.BodyWriter()) }
