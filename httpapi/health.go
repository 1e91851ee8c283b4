package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

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

// mountHealth serves liveness, readiness and metrics. They require no API key and disclose no
// details of errors.
func (a *API) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{Registry: a.Metrics}))
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
		// replica under load tells providers when to retry.
		checks["load"] = "ok"
		if a.Overloaded() {
			checks["load"] = "high"
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
