package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"hydragate/e2e/harness"
)

// TestRoutes_ValidRequests is the control of the other tests: the unmodified requests must get the
// documented status.
func TestRoutes_ValidRequests(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		for _, op := range h.Operations {
			if a := h.Send(h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))); a.Status != op.Status {
				t.Errorf("%s = %d %s, want %d", op.ID, a.Status, a.Body, op.Status)
			}
		}
		t.Logf("%d routes", len(h.Operations))
	})
}

// TestRoutes_MethodNotAllowed checks that an undocumented method on a documented path gets 405
// with the exact Allow header, and changes nothing.
func TestRoutes_MethodNotAllowed(t *testing.T) {
	h := harness.NewAPIFixture(t, harness.Options{Engine: harness.SQLite, APIOnly: true})
	th := h.CreateEntities(harness.TestTenantID)
	methods := map[string][]string{}
	for _, op := range h.Operations {
		path := h.PathOf(op, op.PathIDs(t, th))
		for _, other := range h.Operations {
			if matchesPath(other, path) && !slices.Contains(methods[path], other.Method) {
				methods[path] = append(methods[path], other.Method)
			}
		}
	}
	requests, before := 0, h.AllRows("")
	all := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"}
	for path, want := range methods {
		for _, method := range all {
			isImplicitHead := method == "HEAD" && !strings.HasPrefix(path, "/v1/") && slices.Contains(want, "GET")
			if isImplicitHead || slices.Contains(want, method) {
				continue
			}
			requests++
			a := h.Send(harness.APIRequest{Method: method, Path: path, Header: http.Header{
				"Authorization":                 {"Bearer " + h.AdminKey},
				"Agent-Secret-Key":              {th.AgentKey},
				"Origin":                        {"https://evil.example.com"},
				"Access-Control-Request-Method": {"POST"},
			}})
			allow := strings.Split(a.Header.Get("Allow"), ", ")
			slices.Sort(allow)
			slices.Sort(want)
			if a.Status != 405 || !slices.Equal(allow, want) {
				t.Errorf("%s %s = %d with Allow %v, want 405 with %v", method, path, a.Status, allow, want)
			}
			checkPrivateHeaders(t, method+" "+path, a)
		}
	}
	if row := harness.DiffRows(before, h.AllRows("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d paths, %d requests with another method", len(methods), requests)
}

// TestRoutes_SecurityHeaders checks the security headers of successful and error responses of
// every route.
func TestRoutes_SecurityHeaders(t *testing.T) {
	h := harness.NewAPIFixture(t, harness.Options{Engine: harness.SQLite, APIOnly: true})
	seen := map[int]int{}
	for _, op := range h.Operations {
		th := h.CreateEntities(harness.TestTenantID)
		valid := h.ValidRequest(op, th)
		invalid, unauthenticated := valid, valid
		invalid.Body, invalid.Path = `{"zzz":`, valid.Path+"?limit=x"
		unauthenticated.Header = http.Header{}
		for _, c := range []harness.APIRequest{invalid, unauthenticated, valid} {
			c.Header = c.Header.Clone()
			c.Header.Set("Origin", "https://evil.example.com")
			a := h.Send(c)
			seen[a.Status]++
			checkPrivateHeaders(t, op.ID, a)
		}
	}
	public := []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi-3.0.json", "/docs"}
	for _, path := range append(slices.Clone(public), "/nothing", "/v1/nothing", "/external/nothing", "/global/nothing",
		"/v4/nothing", "/hooks/telegram/x", "/hooks/none/x/y") {
		header := http.Header{"Origin": {"https://evil.example.com"}}
		a := h.Send(harness.APIRequest{Method: "GET", Path: path, Header: header})
		seen[a.Status]++
		if strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") && a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s: HTML without Content-Security-Policy", path)
		}
		checkSecurityHeaders(t, path, a,
			!slices.Contains(public, path) && !strings.HasPrefix(path, "/hooks/") && path != "/nothing")
	}
	t.Logf("responses by status: %v", seen)
}

// matchesPath reports whether path matches the path pattern of op.
func matchesPath(op *harness.APIOperation, path string) bool {
	pattern, given := strings.Split(op.Path, "/"), strings.Split(path, "/")
	return slices.EqualFunc(pattern, given, func(p, g string) bool { return p == g || strings.HasPrefix(p, "{") })
}

// checkPrivateHeaders checks the security headers of a response that must not be cached.
func checkPrivateHeaders(t *testing.T, what string, a harness.Response) {
	t.Helper()
	checkSecurityHeaders(t, what, a, true)
}

// checkSecurityHeaders checks the security headers of a response. A private response must not be
// cached.
func checkSecurityHeaders(t *testing.T, what string, a harness.Response, private bool) {
	t.Helper()
	if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("%s: headers of %d = %v, want nosniff and a request ID", what, a.Status, a.Header)
	}
	if private && a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: Cache-Control of %d = %q, want no-store", what, a.Status, a.Header.Get("Cache-Control"))
	}
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" || name == "Server" {
			t.Errorf("%s: response %d has the header %s", what, a.Status, name)
		}
	}
}
