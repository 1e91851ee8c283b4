package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// middleware stands around everything: request id, safe headers, one log line, metrics,
// and an answer when a handler panics.
func (a *API) middleware(mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, given *http.Request) {
		begun, r := time.Now(), given
		rec := &operation.RequestInfo{ID: r.Header.Get("X-Request-Id")}
		if !requestIDPattern.MatchString(rec.ID) {
			rec.ID = rand.Text()
		}
		r = r.WithContext(operation.WithRequestInfo(r.Context(), rec))
		out := &responseRecorder{ResponseWriter: w}
		setSafeHeaders(out.Header(), r.URL.Path, rec.ID)
		defer func() {
			reason := recover()
			if reason != nil && reason != http.ErrAbortHandler {
				a.handlePanic(r.Context(), out, reason)
			}
			given.Pattern = r.Pattern // for what stands around this, such as traces
			a.logRequest(r, rec, out, time.Since(begun))
			if reason == http.ErrAbortHandler {
				panic(reason)
			}
		}()
		a.checkPath(mux).ServeHTTP(out, r)
	})
}

// checkPath keeps from the mux what it would answer in words of its own: it redirects who
// asks for a path with dots or doubled slashes.
func (a *API) checkPath(mux http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		native := strings.HasPrefix(r.URL.Path, "/v1/")
		switch {
		case !isCleanPath(r.URL.Path, native), r.Method == http.MethodConnect:
			a.surfaceForPath(r.URL.Path).AdaptProblem(fastapi.StatusProblem(http.StatusNotFound)).Write(w)
		case native && r.Method == http.MethodHead:
			handleNoRoute(mux.(*http.ServeMux), w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	}
}

// isCleanPath reports whether a path is written in the shortest way. Only a path that is not
// native may end with a slash.
func isCleanPath(p string, native bool) bool {
	shortest := path.Clean(p)
	return p != "" && (shortest == p || !native && shortest+"/" == p)
}

func setSafeHeaders(h http.Header, path, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if strings.HasPrefix(path, "/v1/") {
		h.Set("Cache-Control", "no-store")
	}
}

// handlePanic answers for a handler that could not, and logs where it happened.
func (a *API) handlePanic(ctx context.Context, w *responseRecorder, reason any) {
	stack := make([]byte, 8<<10)
	stack = stack[:runtime.Stack(stack, false)]
	a.Log.ErrorContext(ctx, "panic in a handler", "request_id", operation.RequestInfoOf(ctx).ID, "reason", panicReason(reason), "stack", string(stack))
	if w.status == 0 {
		fastapi.StatusProblem(http.StatusInternalServerError).Write(w)
	}
}

// panicReason names what a panic was about. Its value may hold anything, so only what
// the runtime itself says is shown.
func panicReason(reason any) string {
	if e, ok := reason.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", reason)
}

// logRequest writes the log line and counts the request. The line holds the pattern of the
// route, never the path, the query or a body.
func (a *API) logRequest(r *http.Request, rec *operation.RequestInfo, w *responseRecorder, took time.Duration) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	pattern := routeLabel(r.Pattern)
	a.requests.observe(pattern, r.Method, w.status, took)
	attrs := []any{
		"request_id", rec.ID, "method", methodLabel(r.Method), "route", pattern, "status", w.status, "bytes", w.bytes,
		"took_ms", took.Milliseconds(), "tenant", rec.Key.TenantID, "key", rec.Key.ID,
	}
	if rec.Mount != "" {
		attrs = append(attrs, "mount", rec.Mount)
	}
	a.Log.Log(r.Context(), requestLogLevel(pattern), "request", attrs...)
}

// requestLogLevel returns the level of a route's log line. Probes and scrapes are logged at debug level.
func requestLogLevel(route string) slog.Level {
	switch route {
	case "/healthz", "/readyz", "/metrics":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// routeLabel gives the path of a pattern, "unmatched" for none.
func routeLabel(pattern string) string {
	if _, p, ok := strings.Cut(pattern, " "); ok {
		pattern = p
	}
	if pattern == "" || pattern == "/" {
		return "unmatched"
	}
	return pattern
}

// responseRecorder is a ResponseWriter that remembers what went through.
type responseRecorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *responseRecorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *responseRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestMetrics count requests by route, method and status, all of closed sets.
type requestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newRequestMetrics(reg *prometheus.Registry) *requestMetrics {
	return &requestMetrics{
		total: registerOrReuse(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "method", "status"})),
		duration: registerOrReuse(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hydragate_http_request_duration_seconds", Help: "How long HTTP requests took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "status"})),
	}
}

// registerOrReuse gives c, or the collector of the same name that was there before.
func registerOrReuse[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	var before prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &before) {
		return before.ExistingCollector.(C)
	}
	return c
}

func (m *requestMetrics) observe(route, method string, status int, took time.Duration) {
	code := strconv.Itoa(status)
	m.total.WithLabelValues(route, methodLabel(method), code).Inc()
	m.duration.WithLabelValues(route, code).Observe(took.Seconds())
}

// methodLabel gives a method by a name of a closed set.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "OTHER"
}
