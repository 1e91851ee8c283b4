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

// mountHealth serves what watches over the program: it is alive, it can take work,
// and its figures. None of it needs a key, and none of it says more than yes or no.
func (a *API) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{Registry: a.Metrics}))
}

func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if a.draining.Load() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "draining"})
		return
	}
	status, word, checks := http.StatusOK, "ok", map[string]string{}
	for _, part := range a.dependencies() {
		checks[part.name] = "ok"
		if err := part.check(ctx); err != nil {
			checks[part.name], status, word = "unavailable", http.StatusServiceUnavailable, "unavailable"
			a.Log.WarnContext(ctx, "not ready", "part", part.name, "err", err)
		}
	}
	if a.Overloaded != nil {
		// Told, and no reason to be passed by: all replicas share what waits, and one that
		// answers tells providers when to come again.
		checks["load"] = "ok"
		if a.Overloaded() {
			checks["load"] = "high"
		}
	}
	writeJSON(w, status, map[string]any{"status": word, "checks": checks})
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
	body, _ := fastapi.Encode(v) // texts only: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
