package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"

	"hydragate/identity"
)

var requestID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// A record is what the log line of a request says at its end.
type record struct {
	id  string
	key identity.APIKey // zero until authenticated
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		return rec
	}
	return &record{}
}

// callerOf gives the API key that was let in.
func callerOf(ctx context.Context) identity.APIKey { return recordOf(ctx).key }

// outer stands around everything: request id, safe headers, one log line, metrics,
// and an answer when a handler panics.
func (a *API) outer(mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, given *http.Request) {
		begun, r := time.Now(), given
		rec := &record{id: r.Header.Get("X-Request-Id")}
		if !requestID.MatchString(rec.id) {
			rec.id = rand.Text()
		}
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		out := &counted{ResponseWriter: w}
		safeHeaders(out.Header(), r.URL.Path, rec.id)
		defer func() {
			reason := recover()
			if reason != nil && reason != http.ErrAbortHandler {
				a.panicked(r.Context(), out, reason)
			}
			given.Pattern = r.Pattern // for what stands around this, such as traces
			a.note(r, rec, out, time.Since(begun))
			if reason == http.ErrAbortHandler {
				panic(reason)
			}
		}()
		a.guard(mux).ServeHTTP(out, r)
	})
}

// guard keeps from the mux what it would answer in words of its own: it redirects who
// asks for a path with dots or doubled slashes.
func (a *API) guard(mux http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		native := strings.HasPrefix(r.URL.Path, "/v1/")
		switch {
		case !clean(r.URL.Path, native), r.Method == http.MethodConnect:
			a.surfaceAt(r.URL.Path).shaped(plain(http.StatusNotFound)).write(w)
		case native && r.Method == http.MethodHead:
			nothingHere(mux.(*http.ServeMux), w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	}
}

// clean reports whether a path is written in the shortest way. Only a path that is not
// native may end with a slash.
func clean(p string, native bool) bool {
	shortest := path.Clean(p)
	return p != "" && (shortest == p || !native && shortest+"/" == p)
}

func safeHeaders(h http.Header, path, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if strings.HasPrefix(path, "/v1/") {
		h.Set("Cache-Control", "no-store")
	}
}

// panicked answers for a handler that could not, and logs where it happened.
func (a *API) panicked(ctx context.Context, w *counted, reason any) {
	stack := make([]byte, 8<<10)
	stack = stack[:runtime.Stack(stack, false)]
	a.Log.ErrorContext(ctx, "panic in a handler", "request_id", recordOf(ctx).id, "reason", safeReason(reason), "stack", string(stack))
	if w.status == 0 {
		plain(http.StatusInternalServerError).write(w)
	}
}

// safeReason names what a panic was about. Its value may hold anything, so only what
// the runtime itself says is shown.
func safeReason(reason any) string {
	if e, ok := reason.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", reason)
}

// note writes the log line and counts the request. The line holds the pattern of the
// route, never the path, the query or a body.
func (a *API) note(r *http.Request, rec *record, w *counted, took time.Duration) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	pattern := templateOf(r.Pattern)
	a.requests.count(pattern, r.Method, w.status, took)
	a.Log.InfoContext(r.Context(), "request", "request_id", rec.id, "method", methodOf(r.Method), "route", pattern,
		"status", w.status, "bytes", w.bytes, "took", took, "tenant", rec.key.TenantID, "key", rec.key.ID)
}

// templateOf gives the path of a pattern, "unmatched" for none.
func templateOf(pattern string) string {
	if _, p, ok := strings.Cut(pattern, " "); ok {
		pattern = p
	}
	if pattern == "" || pattern == "/" {
		return "unmatched"
	}
	return pattern
}

// counted is a ResponseWriter that remembers what went through.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *counted) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *counted) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }
