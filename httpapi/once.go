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
)

const (
	idempotencyKey = "Idempotency-Key"
	lookAgain      = 25 * time.Millisecond
	lookAtMost     = 3 * time.Second
	settleIn       = 5 * time.Second
	workIn         = 30 * time.Second // a call, though its caller may have gone
)

// once runs a call, or gives the answer of the same call made before. A call without
// Idempotency-Key just runs, and so does one whose answer must not be kept.
func (a *API) once(to *route, r *http.Request, in *admitted, next func(huma.Context)) {
	if !to.repeatable() || r.Header.Get(idempotencyKey) == "" {
		next(in)
		return
	}
	_, w := humago.Unwrap(in.inner)
	k := keyOf(r, in)
	kept, first, err := a.remembered(r.Context(), k)
	switch {
	case err != nil:
		a.fail(r.Context(), err).write(w)
	case first:
		a.runAndKeep(r, in, k, kept.Makes, next)
	default:
		replay(w, kept)
	}
}

func keyOf(r *http.Request, in *admitted) IdempotencyKey {
	caller := callerOf(r.Context())
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(in.body)} {
		_, _ = io.WriteString(h, part+"\x00")
	}
	return IdempotencyKey{
		TenantID: caller.TenantID, Principal: caller.ID, Key: r.Header.Get(idempotencyKey),
		Fingerprint: hex.EncodeToString(h.Sum(nil)),
	}
}

// remembered claims the key, or waits a little for the answer of who did.
func (a *API) remembered(ctx context.Context, k IdempotencyKey) (kept StoredAnswer, first bool, err error) {
	patience := time.NewTimer(a.patience)
	defer patience.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		kept, found, err := a.claim(ctx, k)
		switch {
		case err != nil:
			return kept, false, err
		case !found:
			return kept, true, nil
		case kept.Fingerprint != k.Fingerprint:
			return kept, false, invalid(valueError("the same key was used for another call", "header", "idempotency-key"))
		case kept.Status != 0:
			return kept, false, nil
		}
		select {
		case <-again.C:
		case <-patience.C:
			return kept, false, &problem{
				status: http.StatusConflict, detail: "A call with this Idempotency-Key is still being worked",
				header: http.Header{"Retry-After": {"1"}},
			}
		case <-ctx.Done():
			return kept, false, ctx.Err()
		}
	}
}

// claim claims the key, whether or not the caller waits for it: a caller who hangs up in
// that moment would leave a claim behind that nobody knows of and nobody ends.
func (a *API) claim(ctx context.Context, k IdempotencyKey) (kept StoredAnswer, found bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleIn)
	defer cancel()
	return a.Store.Remember(ctx, k)
}

// runAndKeep runs a call and keeps its answer, unless the same call may end
// otherwise: after a failure of ours, a refusal for now, or a panic. A caller who hangs
// up does not end it: broken off while it is committed, it could have happened and be
// taken for a failure. A database that is lost in that moment leaves no other word
// either; so what the call creates has its id before, and made again it is that.
func (a *API) runAndKeep(r *http.Request, in *admitted, k IdempotencyKey, makes string, next func(huma.Context)) {
	work, done := context.WithTimeout(context.WithoutCancel(in.inner.Context()), workIn)
	defer done()
	work = context.WithValue(work, idKey{}, makes)
	heard := &tape{inner: in, ctx: work}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), settleIn)
		defer cancel()
		if err := a.settle(ctx, k, heard); err != nil {
			a.Log.ErrorContext(ctx, "keep answer of idempotent call", "request_id", recordOf(ctx).id, "err", err)
		}
	}()
	next(heard)
}

type idKey struct{}

// idFor gives the id of what a call creates; "" leaves it to the store.
func idFor(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

func (a *API) settle(ctx context.Context, k IdempotencyKey, heard *tape) error {
	if heard.status == 0 || heard.status >= 500 || heard.status == http.StatusTooManyRequests {
		return a.Store.Forget(ctx, k)
	}
	return a.Store.Answered(ctx, k, StoredAnswer{Fingerprint: k.Fingerprint, Status: heard.status, Body: heard.body.Bytes()})
}

func replay(w http.ResponseWriter, kept StoredAnswer) {
	w.Header().Set("Idempotency-Replayed", "true")
	if len(kept.Body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(kept.Status)
	_, _ = w.Write(kept.Body)
}

// A tape writes an answer through and remembers it.
type tape struct {
	inner
	ctx    context.Context
	status int
	body   bytes.Buffer
}

func (t *tape) SetStatus(status int) {
	t.status = status
	t.inner.SetStatus(status)
}

// Context is the time that the call has, whatever becomes of its caller.
func (t *tape) Context() context.Context { return t.ctx }

func (t *tape) Status() int { return t.status }

func (t *tape) BodyWriter() io.Writer { return io.MultiWriter(&t.body, t.inner.BodyWriter()) }
