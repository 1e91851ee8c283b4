// Package tracetest provides a fake collector of traces for tests.
package tracetest

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Collector receives traces by OTLP over HTTP on loopback, and records them.
type Collector struct {
	*httptest.Server
	Mu    sync.Mutex
	Raw   []byte // bodies of all requests, decompressed
	Spans []*tracepb.Span
}

// NewCollector starts a collector that is closed at the end of the test.
func NewCollector(t *testing.T) *Collector {
	c := &Collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
			t.Errorf("request %s %s, want POST /v1/traces", r.Method, r.URL.Path)
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		b, err := io.ReadAll(body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &req)
		}
		if err != nil {
			t.Errorf("read the traces: %v", err)
		}
		c.record(b, &req)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *Collector) record(raw []byte, req *collector.ExportTraceServiceRequest) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Raw = append(c.Raw, raw...)
	for _, r := range req.ResourceSpans {
		for _, s := range r.ScopeSpans {
			c.Spans = append(c.Spans, s.Spans...)
		}
	}
}

// FindSpans returns the spans of a name whose attribute has the value. If attribute is empty, it
// returns all spans of the name.
func (c *Collector) FindSpans(name, attribute, value string) []*tracepb.Span {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	var spans []*tracepb.Span
	for _, s := range c.Spans {
		if s.Name == name && (attribute == "" || attributeValue(s, attribute) == value) {
			spans = append(spans, s)
		}
	}
	return spans
}

func attributeValue(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}
