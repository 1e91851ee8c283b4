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

// A Collector takes traces by OTLP over HTTP, on loopback.
type Collector struct {
	*httptest.Server
	Mu    sync.Mutex
	Raw   []byte // all that came
	Spans []*tracepb.Span
}

func NewCollector(t *testing.T) *Collector {
	c := &Collector{}
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
		c.record(b, &sent)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *Collector) record(raw []byte, sent *collector.ExportTraceServiceRequest) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Raw = append(c.Raw, raw...)
	for _, r := range sent.ResourceSpans {
		for _, s := range r.ScopeSpans {
			c.Spans = append(c.Spans, s.Spans...)
		}
	}
}

// FindSpans gives the spans of a name whose attribute has the value given.
func (c *Collector) FindSpans(name, attribute, value string) []*tracepb.Span {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	var some []*tracepb.Span
	for _, s := range c.Spans {
		if s.Name == name && (attribute == "" || attributeValue(s, attribute) == value) {
			some = append(some, s)
		}
	}
	return some
}

func attributeValue(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}
