package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"hydragate/httpapi/fastapi"
)

// HealthStore reports the state of the database.
type HealthStore interface {
	// Ping returns an error if the database cannot be reached.
	Ping(ctx context.Context) error
	// Migrated returns an error if the schema of the database is not that of this program.
	Migrated(ctx context.Context) error
}

const readyTimeout = 2 * time.Second

// mountHealth serves liveness, readiness and, unless HideMetrics is set, metrics. They require no API
// key and disclose no details of errors.
func (a *API) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	if !a.HideMetrics {
		a.mountMetrics(mux)
	}
}

func (a *API) mountMetrics(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{Registry: a.Metrics}))
}

// AdminHandler returns the handler of an address that only operators reach: health, metrics, and
// profiles at /debug/pprof/. Metrics and Log must be set. The command line is not served, because flags
// may contain secrets.
func (a *API) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	a.mountHealth(mux)
	if a.HideMetrics {
		a.mountMetrics(mux)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// readyz responds with 200 if all dependencies are available and the API is not draining, else with
// 503.
func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if a.draining.Load() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "draining"})
		return
	}
	status, text, checks := http.StatusOK, "ok", map[string]string{}
	for _, part := range a.dependencies() {
		checks[part.name] = "ok"
		if err := part.check(ctx); err != nil {
			checks[part.name], status, text = "unavailable", http.StatusServiceUnavailable, "unavailable"
			a.Log.WarnContext(ctx, "not ready", "dependency", part.name, "error", err)
		}
	}
	if a.Overloaded != nil {
		// Load does not make a replica unready: the backlog is shared by all replicas, and a
		// replica under load asks providers to retry later.
		checks["load"] = "ok"
		if a.Overloaded() {
			checks["load"] = "high"
		}
	}
	if a.ReplicaConflict != nil {
		// Nor does a conflict: it would take all replicas away.
		checks["replicas"] = "ok"
		if a.ReplicaConflict() {
			checks["replicas"] = "conflict"
		}
	}
	writeJSON(w, status, map[string]any{"status": text, "checks": checks})
}

type dependency struct {
	name  string
	check func(context.Context) error
}

func (a *API) dependencies() []dependency {
	parts := []dependency{{"database", a.Stores.Health.Ping}, {"migrations", a.Stores.Health.Migrated}}
	if a.Ready != nil {
		parts = append(parts, dependency{"redis", a.Ready})
	}
	return parts
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, _ := fastapi.Encode(v) // strings only: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// mountDocs serves the OpenAPI documents and a page to browse them, which loads nothing from other
// hosts.
func (a *API) mountDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	mux.HandleFunc("GET /openapi.json", a.documentHandler(func() ([]byte, error) { return json.Marshal(doc) }))
	mux.HandleFunc("GET /openapi-3.0.json", a.documentHandler(func() ([]byte, error) { return downgrade(doc) }))
	docs := v5emb.NewWithConfig(swgui.Config{
		AppendHead: `<meta name="viewport" content="width=device-width, initial-scale=1">`,
		SettingsUI: map[string]string{"persistAuthorization": "true"},
	})("Hydragate", "/openapi.json", "/docs/")
	policy := docsPolicy(docs)
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		docs.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /docs", page)
	mux.HandleFunc("GET /docs/", page)
}

// documentHandler serves an OpenAPI document, or an error if it cannot be generated. The document is
// generated at the first request, because that takes longer than the rest of the start.
func (a *API) documentHandler(generate func() ([]byte, error)) http.HandlerFunc {
	generated := sync.OnceValues(generate)
	return func(w http.ResponseWriter, r *http.Request) {
		document, err := generated()
		if err != nil {
			a.responder.ProblemFor(r.Context(), err).Write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	}
}

// docsPolicy returns the Content-Security-Policy of the page. It allows the inline scripts of the
// page by their hash.
func docsPolicy(docs http.Handler) string {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/docs/"}}
	page := &responseBuffer{header: http.Header{}}
	docs.ServeHTTP(page, r)
	scripts := []string{"'self'"}
	for _, m := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(m[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; " +
		"style-src 'self' 'unsafe-inline'; script-src " + strings.Join(scripts, " ") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// A responseBuffer is a ResponseWriter that buffers the body.
type responseBuffer struct {
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (b *responseBuffer) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *responseBuffer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (b *responseBuffer) Write(p []byte) (int, error) { return b.body.Write(p) }
