package httpapi

import (
	"crypto/rand"
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
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// middleware wraps all handlers. It assigns request IDs, sets security headers, recovers panics,
// and logs and counts each request.
func (a *API) middleware(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, original *http.Request) {
		start, r := time.Now(), original
		info := &operation.RequestInfo{ID: r.Header.Get("X-Request-Id"), Regions: a.Stores.Instances}
		if !requestIDPattern.MatchString(info.ID) {
			info.ID = rand.Text()
		}
		r = r.WithContext(operation.WithRequestInfo(r.Context(), info))
		out := &responseRecorder{ResponseWriter: w}
		setSafeHeaders(out.Header(), r.URL.Path, info.ID)
		defer func() {
			v := recover()
			aborted := v == http.ErrAbortHandler //nolint:errorlint // net/http compares it in the same way
			if v != nil && !aborted {
				a.handlePanic(r, out, v)
			}
			original.Pattern = r.Pattern // for outer middleware, such as tracing
			a.logRequest(r, info, out, time.Since(start))
			if aborted {
				panic(v)
			}
		}()
		a.checkPath(mux).ServeHTTP(out, r)
	})
}

// checkPath responds to requests for which ServeMux would write a response in another format, such
// as the redirect for a path with dots or repeated slashes.
func (a *API) checkPath(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		native := strings.HasPrefix(r.URL.Path, "/v1/")
		switch {
		case !isCleanPath(r.URL.Path, native), r.Method == http.MethodConnect:
			a.surfaceForPath(r.URL.Path).AdaptProblem(fastapi.StatusProblem(http.StatusNotFound)).Write(w)
		case native && r.Method == http.MethodHead:
			handleNoRoute(mux, w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	}
}

// isCleanPath reports whether path.Clean does not change a path. A path outside the native API may
// end with a slash.
func isCleanPath(p string, native bool) bool {
	clean := path.Clean(p)
	return p != "" && (clean == p || !native && clean+"/" == p)
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

// handlePanic logs a recovered panic. If nothing was written yet, it responds with the status that
// the handler asked for, or with an internal error in the format of the surface.
func (a *API) handlePanic(r *http.Request, w *responseRecorder, v any) {
	info := operation.RequestInfoOf(r.Context())
	stack := make([]byte, 8<<10)
	stack = stack[:runtime.Stack(stack, false)]
	a.Log.ErrorContext(r.Context(), "handler panicked", "request_id", info.ID, "route", routeLabel(r.Pattern),
		"channel", r.PathValue("channel"), "instance", r.PathValue("instance_id"),
		"error", panicText(v), "stack", string(stack))
	switch {
	case w.status != 0:
	case info.PanicStatus != 0:
		w.WriteHeader(info.PanicStatus)
	default:
		a.surfaceForPath(r.URL.Path).AdaptProblem(fastapi.StatusProblem(http.StatusInternalServerError)).Write(w)
	}
}

// panicText describes a recovered value for the log. Only errors of the runtime are quoted, because
// other values may contain personal data or secrets.
func panicText(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

// logRequest logs and counts a request. It logs the pattern of the route, never the path, the query
// or a body.
func (a *API) logRequest(r *http.Request, info *operation.RequestInfo, w *responseRecorder, duration time.Duration) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	route := routeLabel(r.Pattern)
	a.metrics.recordRequest(route, r.Method, w.status, duration)
	attrs := []any{
		"request_id", info.ID, "method", methodLabel(r.Method), "route", route, "status", w.status, "bytes", w.bytes,
		"took_ms", duration.Milliseconds(), "tenant", info.Key.TenantID, "key", info.Key.ID,
	}
	if info.Mount != "" {
		attrs = append(attrs, "mount", info.Mount)
	}
	a.Log.Log(r.Context(), requestLogLevel(route), "request", attrs...)
}

// requestLogLevel returns the level of a route's log line. Probes and scrapes are logged at debug
// level.
func requestLogLevel(route string) slog.Level {
	switch route {
	case "/healthz", "/readyz", "/metrics":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// A responseRecorder is a ResponseWriter that records the status and the number of bytes.
type responseRecorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *responseRecorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *responseRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is used by http.ResponseController.
func (w *responseRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// metrics counts requests and observes their duration.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"route", "method", "status"}
	return &metrics{
		requests: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_http_requests_total", Help: "HTTP requests by route, method and status.",
		}, labels),
		duration: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
			Name: "hydragate_http_request_duration_seconds", Help: "Duration of HTTP requests.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, labels),
	}
}

func (m *metrics) recordRequest(route, method string, status int, duration time.Duration) {
	values := []string{route, methodLabel(method), strconv.Itoa(status)}
	m.requests.WithLabelValues(values...).Inc()
	m.duration.WithLabelValues(values...).Observe(duration.Seconds())
}

// routeLabel returns the path of a pattern of ServeMux. It returns "unmatched" for a request that
// matches no route, so that paths chosen by clients do not become labels.
func routeLabel(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		pattern = path
	}
	if pattern == "" || pattern == "/" {
		return "unmatched"
	}
	return pattern
}

// methodLabel returns the method, or "OTHER" for one that the API does not know.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return method
	}
	return "OTHER"
}
