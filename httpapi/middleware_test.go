package httpapi

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"hydragate/httpapi/operation"
)

func TestRequestID(t *testing.T) {
	h := newHarness(t)
	for id, valid := range map[string]bool{
		"abc-1.2_3": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false,
		"<script>": false, "é": false,
	} {
		got := h.request("GET", "/v1/nothing", "", "X-Request-Id: "+id).header.Get("X-Request-Id")
		if (got == id) != valid || got == "" {
			t.Errorf("request ID for X-Request-Id %q = %q, accepted want %v", id, got, valid)
		}
	}
}

func TestMiddleware_Panic(t *testing.T) {
	h := newHarness(t)
	h.store.PanicOnCreate = true
	got := h.request("POST", "/v1/customers", `{}`, "X-Request-Id: oops-1")
	h.expect(got, 500, `{"detail":"Internal Server Error"}`)
	if log := h.log.String(); !strings.Contains(log, "handler panicked") || !strings.Contains(log, "oops-1") ||
		strings.Contains(log, "canary") {
		t.Errorf("log = %s", log)
	}
}

// TestMiddleware_PanicStatus checks that a mounted handler can choose the status of the response to
// a panic, as webhooks do, that the stack is logged, and that the next request is handled.
func TestMiddleware_PanicStatus(t *testing.T) {
	h := newHarness(t, func(a *API) {
		a.Mounts = []Mount{{Name: "hooks", Register: func(mux Mux) {
			mux.Handle("/hooks/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				operation.RequestInfoOf(r.Context()).PanicStatus = http.StatusServiceUnavailable
				if r.URL.Path == "/hooks/broken" {
					panic("oops")
				}
			}))
		}}}
	})
	h.expect(h.request("POST", "/hooks/broken", ""), 503, "")
	h.expect(h.request("POST", "/hooks/fine", ""), 200, "")
	if log := h.log.String(); !strings.Contains(log, "handler panicked") || !strings.Contains(log, "middleware_test.go") {
		t.Errorf("the log does not contain the stack: %s", log)
	}
}

func TestMiddleware_LogLine(t *testing.T) {
	h := newHarness(t)
	h.request("GET", "/v1/customers/lookup/identity?channel=telegram&external_id=424242", "")
	h.request("GET", "/v1/secret-path-4711?x=1", "")
	log := h.log.String()
	if strings.Count(log, `"msg":"request"`) != 2 || !strings.Contains(log, `"route":"/v1/customers/lookup/identity"`) ||
		!strings.Contains(log, `"route":"unmatched"`) {
		t.Errorf("log = %s", log)
	}
	if strings.Contains(log, "external_id") || strings.Contains(log, "secret-path") {
		t.Error("the log contains a query or a path")
	}
}

func TestMiddleware_SafeHeaders(t *testing.T) {
	h := newHarness(t)
	header := h.request("GET", "/v1/customers", "").header
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestDocs_SelfContained(t *testing.T) {
	h := newHarness(t)
	got := h.request("GET", "/docs", "", "Authorization")
	h.expect(got, 200, "")
	if outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//`).FindString(got.body); outside != "" {
		t.Errorf("the page refers to another host: %s", outside)
	}
	policy := got.header.Get("Content-Security-Policy")
	if strings.Count(policy, "'sha256-") != 2 || !strings.Contains(policy, "script-src 'self' 'sha256-") {
		t.Errorf("Content-Security-Policy = %s", policy)
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(got.body, -1) {
		h.expect(h.request("GET", asset[1], "", "Authorization"), 200, "")
	}
}

func TestHealth(t *testing.T) {
	var redis error
	h := newHarness(t, func(a *API) { a.Ready = func(context.Context) error { return redis } })
	h.expect(h.request("GET", "/healthz", "", "Authorization"), 200, `{"status":"ok"}`)
	h.expect(
		h.request("GET", "/readyz", "", "Authorization"),
		200,
		`{"checks":{"database":"ok","migrations":"ok","redis":"ok"},"status":"ok"}`,
	)
	redis = errors.New("dial redis: refused")
	h.expect(
		h.request("GET", "/readyz", ""),
		503,
		`{"checks":{"database":"ok","migrations":"ok","redis":"unavailable"},"status":"unavailable"}`,
	)
	redis = nil
	h.api.Drain()
	h.expect(h.request("GET", "/readyz", ""), 503, `{"status":"draining"}`)
	h.expect(h.request("GET", "/healthz", ""), 200, "")
}

func TestMetrics_Routes(t *testing.T) {
	h := newHarness(t)
	h.request("GET", "/v1/customers/"+h.customer, "")
	h.request("BREW", "/unknown", "")
	got := h.request("GET", "/metrics", "", "Authorization").body
	for _, want := range []string{
		`hydragate_http_requests_total{method="GET",route="/v1/customers/{customer_id}",status="200"} 1`,
		`hydragate_http_requests_total{method="OTHER",route="unmatched",status="404"} 1`,
		`hydragate_http_request_duration_seconds_count{method="GET",route="/v1/customers/{customer_id}",status="200"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics do not contain %s", want)
		}
	}
	if strings.Contains(got, h.customer) {
		t.Error("the metrics contain an ID")
	}
}

func TestMounts(t *testing.T) {
	h := newHarness(t, func(a *API) {
		a.Mounts = []Mount{{
			Name: "webhooks",
			Register: func(mux Mux) {
				mux.Handle(
					"POST /hooks/",
					http.HandlerFunc(
						func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
					),
				)
			},
			Header: http.Header{"Content-Security-Policy": {"default-src 'self'"}},
		}}
	})
	got := h.request("POST", "/hooks/telegram/x", "{}", "Authorization")
	if policy := got.header.Get("Content-Security-Policy"); policy != "default-src 'self'" {
		t.Errorf("Content-Security-Policy of a mount = %q, want %q", policy, "default-src 'self'")
	}
	if !strings.Contains(h.log.String(), `"mount":"webhooks"`) {
		t.Errorf("the request log does not name the mount: %s", h.log)
	}
	h.expect(h.request("POST", "/hooks/telegram/x", "{}", "Authorization"), 403, "")
	h.expect(h.request("GET", "/hooks/telegram/x", "", "Authorization"), 405, `{"detail":"Method Not Allowed"}`)
}
