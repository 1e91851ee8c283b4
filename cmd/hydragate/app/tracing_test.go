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

// TestTracing_NoUserInput asks for odd paths, queries and headers.
func TestTracing_NoUserInput(t *testing.T) {
	c := tracetest.NewCollector(t)
	stop, err := startTracing(t.Context(), c.URL+"/", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/customers/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hooks/{channel}/{instance_id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	h := traceRequests(mux)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, path := range []string{"/v1/customers/canary", "/canary/path", "/v1/customers/x?external_id=canary", "/hooks/canary/canary", "/healthz?canary"} {
		r := httptest.NewRequest("GET", path, strings.NewReader("canary"))
		r.Header.Set("Authorization", "Bearer canary")
		r.Header.Set("Traceparent", parent)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	stop()
	if bytes.Contains(c.Raw, []byte("canary")) {
		t.Errorf("%q", c.Raw)
	}
	if len(c.Spans) != 4 {
		t.Fatalf("%d spans", len(c.Spans))
	}
	continued := c.FindSpans("GET /v1/customers/{id}", "", "")[0]
	hook := c.FindSpans("GET /hooks/{channel}/{instance_id}", "", "")[0]
	if hex.EncodeToString(continued.TraceId) != parent[3:35] {
		t.Error("a call does not continue the trace of its caller")
	}
	if hex.EncodeToString(hook.TraceId) == parent[3:35] || len(hook.Links) != 1 {
		t.Error("a hook continues the trace of a stranger")
	}
	if hook.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Error("503 is no error")
	}
}

func TestTracing_Disabled(t *testing.T) {
	stop, err := startTracing(t.Context(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, span := otel.Tracer("x").Start(t.Context(), "x"); span.IsRecording() {
		t.Error("a span is recorded")
	}
}

// A collector that hangs holds up the end of the process for lastTraces at most.
func TestTracing_UnresponsiveCollector(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(release)
	stop, err := startTracing(t.Context(), hangs.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("x").Start(t.Context(), "x")
	span.End()
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > traceFlushTimeout+time.Second {
		t.Errorf("it took %s", took)
	}
}
