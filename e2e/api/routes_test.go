package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"hydragate/e2e/harness"
)

// TestRoutes_ValidRequests is the twin of all that is refused in the other
// proofs: the very calls that those spoil are answered here as the document says.
func TestRoutes_ValidRequests(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		for _, op := range h.Operations {
			if a := h.Send(h.ValidRequest(op, h.CreateEntities(harness.TestTenantID))); a.Status != op.Status {
				t.Errorf("%s: %d %s; want %d", op.ID, a.Status, a.Body, op.Status)
			}
		}
		t.Logf("%d routes", len(h.Operations))
	})
}

// TestRoutes_MethodNotAllowed asks every path of the document by every method: what no
// route takes is 405, with exactly the methods that there are, and opens nothing.
func TestRoutes_MethodNotAllowed(t *testing.T) {
	h := harness.NewAPIFixture(t, "sqlite", harness.DiscardLogger())
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
	asked, before := 0, h.AllRows("")
	for path, taken := range methods {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			if slices.Contains(taken, method) || method == "HEAD" && !strings.HasPrefix(path, "/v1/") && slices.Contains(taken, "GET") {
				continue
			}
			asked++
			a := h.Send(harness.APIRequest{Method: method, Path: path, Header: http.Header{"Authorization": {"Bearer " + h.AdminKey}, "Agent-Secret-Key": {th.AgentKey}, "Origin": {"https://evil.example.com"}, "Access-Control-Request-Method": {"POST"}}})
			allow := strings.Split(a.Header.Get("Allow"), ", ")
			slices.Sort(allow)
			slices.Sort(taken)
			if a.Status != 405 || !slices.Equal(allow, taken) {
				t.Errorf("%s %s: %d, Allow %v; want 405 and %v", method, path, a.Status, allow, taken)
			}
			checkPrivateHeaders(t, method+" "+path, a)
		}
	}
	if row := harness.DiffRows(before, h.AllRows("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d paths, %d calls with another method", len(methods), asked)
}

// TestRoutes_SecurityHeaders looks at the headers of answers of every status that
// every route gives.
func TestRoutes_SecurityHeaders(t *testing.T) {
	h := harness.NewAPIFixture(t, "sqlite", harness.DiscardLogger())
	seen := map[int]int{}
	for _, op := range h.Operations {
		th := h.CreateEntities(harness.TestTenantID)
		right := h.ValidRequest(op, th)
		wrong, nobody := right, right
		wrong.Body, wrong.Path = `{"zzz":`, right.Path+"?limit=x"
		nobody.Header = http.Header{}
		for _, c := range []harness.APIRequest{wrong, nobody, right} {
			c.Header = c.Header.Clone()
			c.Header.Set("Origin", "https://evil.example.com")
			a := h.Send(c)
			seen[a.Status]++
			checkPrivateHeaders(t, op.ID, a)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/nothing", "/v1/nothing", "/external/nothing", "/global/nothing", "/v4/nothing", "/hooks/telegram/x", "/hooks/none/x/y"} {
		a := h.Send(harness.APIRequest{Method: "GET", Path: path, Header: http.Header{"Origin": {"https://evil.example.com"}}})
		seen[a.Status]++
		if strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") && a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: HTML without a policy", path)
		}
		open := map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/openapi.json": true, "/docs": true}[path]
		checkSecurityHeaders(t, path, a, !open && !strings.HasPrefix(path, "/hooks/") && path != "/nothing")
	}
	t.Logf("answers by status: %v", seen)
}

// matchesPath reports whether a path is one of the operation's.
func matchesPath(op *harness.APIOperation, path string) bool {
	pattern, given := strings.Split(op.Path, "/"), strings.Split(path, "/")
	return slices.EqualFunc(pattern, given, func(p, g string) bool { return p == g || strings.HasPrefix(p, "{") })
}

func checkPrivateHeaders(t *testing.T, what string, a harness.Response) {
	t.Helper()
	checkSecurityHeaders(t, what, a, true)
}

// checkSecurityHeaders holds the headers of an answer to what a browser must be told. Private answers
// must be kept nowhere.
func checkSecurityHeaders(t *testing.T, what string, a harness.Response, private bool) {
	t.Helper()
	if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("%s: %d %v", what, a.Status, a.Header)
	}
	if private && a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %d may be kept: Cache-Control %q", what, a.Status, a.Header.Get("Cache-Control"))
	}
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" || name == "Server" {
			t.Errorf("%s: %d has the header %s", what, a.Status, name)
		}
	}
}
