package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A pretendCollector takes traces by OTLP over HTTP, on loopback.
type pretendCollector struct {
	*httptest.Server
	mu    sync.Mutex
	raw   []byte // all that came
	spans []*tracepb.Span
}

func newPretendCollector(t *testing.T) *pretendCollector {
	c := &pretendCollector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		b, err := io.ReadAll(body)
		var sent collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &sent)
		}
		if err != nil {
			t.Error(err)
		}
		c.take(b, &sent)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *pretendCollector) take(raw []byte, sent *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = append(c.raw, raw...)
	for _, r := range sent.ResourceSpans {
		for _, s := range r.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
}

// named gives the spans of a name whose attribute has the value given.
func (c *pretendCollector) named(name, attribute, value string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var some []*tracepb.Span
	for _, s := range c.spans {
		if s.Name == name && (attribute == "" || attr(s, attribute) == value) {
			some = append(some, s)
		}
	}
	return some
}

func attr(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

var spokenCode = regexp.MustCompile(`\b[BCDFGHJKLMNPQRSTVWXZ]{3}-?[BCDFGHJKLMNPQRSTVWXZ]{3}\b`)

// TestTracesTellTheStory plays the demo's story with a collector beside it: every kind
// of work has its span, and nothing that a person wrote or was told is in any.
func TestTracesTellTheStory(t *testing.T) {
	demoFolder(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTime)
	defer cancel()
	c := newPretendCollector(t)
	var headers sync.Map // of what the agent was sent
	told := &demoOutput{}
	p, err := pretend(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	d := &demo{console: console{out: told, err: io.Discard}, pretence: p, agent: newSampleAgent()}
	agent, err := openLoopback(freeDemoPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers.Store(r.Header.Get("Traceparent"), true)
		d.agent.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.close()
	d.agentURL = agent.url
	s := (&demoCmd{Script: true, LogLevel: "error"}).settings(t.TempDir(), p)
	s.OTLPEndpoint = c.URL
	if err := d.beside(ctx, s, d.script); err != nil {
		t.Fatal(err)
	}

	for _, want := range []struct{ name, attribute, value string }{
		{"POST /v1/customers/{customer_id}/identities/{identity_id}/claim-code", "http.route", "/v1/customers/{customer_id}/identities/{identity_id}/claim-code"},
		{"POST /v1/customers/{customer_id}/identities/{identity_id}/claim-code", "url.path", "/v1/customers/{customer_id}/identities/{identity_id}/claim-code"},
		{"POST /hooks/{channel}/{instance_id}", "hydragate.instance.id", d.instance},
		{"process inbox", "hydragate.outcome", "claimed"},
		{"process inbox", "hydragate.outcome", "declined"},
		{"process inbox", "hydragate.channel", "slack"},
		{"POST", "hydragate.outcome", "delivered"},
		{"POST", "hydragate.event.type", "identity.verified"},
		{"send outbox", "hydragate.outcome", "sent"},
	} {
		if len(c.named(want.name, want.attribute, want.value)) == 0 {
			t.Errorf("no span %q with %s %q", want.name, want.attribute, want.value)
		}
	}
	for _, s := range c.named("POST", "", "") {
		if _, got := headers.Load("00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"); !got {
			t.Errorf("the agent was not told of trace %x", s.TraceId)
		}
	}

	codes := spokenCode.FindAllString(told.String(), -1)
	if len(codes) < 3 {
		t.Fatal("the story has no codes; the canary below would sing of nothing")
	}
	secrets := []string{"What is my balance?", "1,250.00", "That code did not work", d.staff.key, p.telegramToken, p.twilioToken, "steve@"}
	for _, code := range codes {
		secrets = append(secrets, code, strings.ReplaceAll(code, "-", ""))
	}
	for _, s := range secrets {
		if s != "" && bytes.Contains(c.raw, []byte(s)) {
			t.Errorf("%q is in a trace", s)
		}
	}
}

// TestTracesKeepWhatIsTypedOut asks for odd paths, queries and headers.
func TestTracesKeepWhatIsTypedOut(t *testing.T) {
	c := newPretendCollector(t)
	stop, err := startTraces(t.Context(), c.URL+"/", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/customers/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hooks/{channel}/{instance_id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	h := traced(mux)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, path := range []string{"/v1/customers/canary", "/canary/path", "/v1/customers/x?external_id=canary", "/hooks/canary/canary", "/healthz?canary"} {
		r := httptest.NewRequest("GET", path, strings.NewReader("canary"))
		r.Header.Set("Authorization", "Bearer canary")
		r.Header.Set("Traceparent", parent)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	stop()
	if bytes.Contains(c.raw, []byte("canary")) {
		t.Errorf("%q", c.raw)
	}
	if len(c.spans) != 4 {
		t.Fatalf("%d spans", len(c.spans))
	}
	continued := c.named("GET /v1/customers/{id}", "", "")[0]
	hook := c.named("GET /hooks/{channel}/{instance_id}", "", "")[0]
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

func TestTracesOff(t *testing.T) {
	stop, err := startTraces(t.Context(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, span := otel.Tracer("x").Start(t.Context(), "x"); span.IsRecording() {
		t.Error("a span is recorded")
	}
}

// A collector that hangs holds up the end of the process for lastTraces at most.
func TestTracesEndThoughTheCollectorHangs(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(release)
	stop, err := startTraces(t.Context(), hangs.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("x").Start(t.Context(), "x")
	span.End()
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > lastTraces+time.Second {
		t.Errorf("it took %s", took)
	}
}
