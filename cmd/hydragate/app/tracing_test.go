package app

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"hydragate/cmd/hydragate/app/tracetest"
)

// TestTracing_NoUserInput sends secrets in the path, the query, a header and the body. None may be in
// a span.
func TestTracing_NoUserInput(t *testing.T) {
	c := tracetest.NewCollector(t)
	stop, err := startTracing(t.Context(), c.URL+"/", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/customers/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hooks/{channel}/{instance_id}", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	h := traceRequests(mux)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, path := range []string{
		"/v1/customers/canary", "/canary/path", "/v1/customers/x?external_id=canary", "/hooks/canary/canary",
		"/healthz?canary",
	} {
		r := httptest.NewRequest(http.MethodGet, path, strings.NewReader("canary"))
		r.Header.Set("Authorization", "Bearer canary")
		r.Header.Set("Traceparent", parent)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	stop()
	if bytes.Contains(c.Raw, []byte("canary")) {
		t.Errorf("the exported traces contain the secret: %q", c.Raw)
	}
	if len(c.Spans) != 4 {
		t.Fatalf("%d spans, want 4", len(c.Spans))
	}
	continued := c.FindSpans("GET /v1/customers/{id}", "", "")[0]
	webhook := c.FindSpans("GET /hooks/{channel}/{instance_id}", "", "")[0]
	if hex.EncodeToString(continued.TraceId) != parent[3:35] {
		t.Error("the API request does not continue the trace of its client")
	}
	if hex.EncodeToString(webhook.TraceId) == parent[3:35] || len(webhook.Links) != 1 {
		t.Error("the webhook request continues the trace of its sender")
	}
	if webhook.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Error("the status of the span of a 503 response is not an error")
	}
}

func TestTracing_Disabled(t *testing.T) {
	stop, err := startTracing(t.Context(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, span := otel.Tracer("x").Start(t.Context(), "x"); span.IsRecording() {
		t.Error("a span is recorded although tracing is off")
	}
}

// TestTracing_UnresponsiveCollector checks that a collector that does not answer delays the shutdown
// by traceFlushTimeout at most.
func TestTracing_UnresponsiveCollector(t *testing.T) {
	release := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer collector.Close()
	defer close(release)
	stop, err := startTracing(t.Context(), collector.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("x").Start(t.Context(), "x")
	span.End()
	started := time.Now()
	stop()
	// Without the limit it would wait for the collector. The machine may be busy.
	if took := time.Since(started); took > traceFlushTimeout+10*time.Second {
		t.Errorf("stop took %s, want at most %s", took, traceFlushTimeout)
	}
}
