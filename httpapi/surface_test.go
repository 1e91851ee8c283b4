package httpapi

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestRequestID(t *testing.T) {
	w := newWorld(t)
	for given, kept := range map[string]bool{"abc-1.2_3": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "<script>": false, "é": false} {
		got := w.ask("GET", "/v1/nothing", "", "X-Request-Id: "+given).header.Get("X-Request-Id")
		if (got == given) != kept || got == "" {
			t.Errorf("%q: %q", given, got)
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	w := newWorld(t)
	w.store.explode = true
	got := w.ask("POST", "/v1/customers", `{}`, "X-Request-Id: oops-1")
	w.want(got, 500, `{"detail":"Internal Server Error"}`)
	if log := w.log.String(); !strings.Contains(log, "panic in a handler") || !strings.Contains(log, "oops-1") || strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
}

func TestOneLineForEachRequest(t *testing.T) {
	w := newWorld(t)
	w.ask("GET", "/v1/customers/lookup/identity?channel=telegram&external_id=424242", "")
	w.ask("GET", "/v1/secret-path-4711?x=1", "")
	log := w.log.String()
	if strings.Count(log, `"msg":"request"`) != 2 || !strings.Contains(log, `"route":"/v1/customers/lookup/identity"`) || !strings.Contains(log, `"route":"unmatched"`) {
		t.Errorf("log: %s", log)
	}
	if strings.Contains(log, "external_id") || strings.Contains(log, "secret-path") {
		t.Error("a query or a path in the log")
	}
}

func TestSafeHeaders(t *testing.T) {
	w := newWorld(t)
	h := w.ask("GET", "/v1/customers", "").header
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q", name, h.Get(name))
		}
	}
}

func TestDocsLoadNothingFromOutside(t *testing.T) {
	w := newWorld(t)
	got := w.ask("GET", "/docs", "", "Authorization")
	w.want(got, 200, "")
	if outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//`).FindString(got.body); outside != "" {
		t.Errorf("outside: %s", outside)
	}
	policy := got.header.Get("Content-Security-Policy")
	if strings.Count(policy, "'sha256-") != 2 || !strings.Contains(policy, "script-src 'self' 'sha256-") {
		t.Errorf("policy: %s", policy)
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(got.body, -1) {
		w.want(w.ask("GET", asset[1], "", "Authorization"), 200, "")
	}
}

func TestHealth(t *testing.T) {
	var redis error
	w := newWorld(t, func(a *API) { a.Ready = func(context.Context) error { return redis } })
	w.want(w.ask("GET", "/healthz", "", "Authorization"), 200, `{"status":"ok"}`)
	w.want(w.ask("GET", "/readyz", "", "Authorization"), 200, `{"checks":{"database":"ok","migrations":"ok","redis":"ok"},"status":"ok"}`)
	redis = errors.New("dial redis: refused")
	w.want(w.ask("GET", "/readyz", ""), 503, `{"checks":{"database":"ok","migrations":"ok","redis":"unavailable"},"status":"unavailable"}`)
	redis = nil
	w.api.Drain()
	w.want(w.ask("GET", "/readyz", ""), 503, `{"status":"draining"}`)
	w.want(w.ask("GET", "/healthz", ""), 200, "")
}

func TestMetricsCountRoutes(t *testing.T) {
	w := newWorld(t)
	w.ask("GET", "/v1/customers/"+w.steve, "")
	w.ask("BREW", "/coffee", "")
	got := w.ask("GET", "/metrics", "", "Authorization").body
	for _, want := range []string{
		`hydragate_http_requests_total{method="GET",route="/v1/customers/{customer_id}",status="200"} 1`,
		`hydragate_http_requests_total{method="OTHER",route="unmatched",status="404"} 1`,
		`hydragate_http_request_duration_seconds_count{route="/v1/customers/{customer_id}",status="200"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, w.steve) {
		t.Error("an id is a label")
	}
}

func TestMounts(t *testing.T) {
	w := newWorld(t, func(a *API) {
		a.Mounts = []func(*http.ServeMux){func(mux *http.ServeMux) {
			mux.HandleFunc("POST /hooks/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		}}
	})
	w.want(w.ask("POST", "/hooks/telegram/x", "{}", "Authorization"), 403, "")
	w.want(w.ask("GET", "/hooks/telegram/x", "", "Authorization"), 405, `{"detail":"Method Not Allowed"}`)
}
