//go:build unix

package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestEveryRouteWorksWhenAskedRightly is the twin of all that is refused in the other
// proofs: the very calls that those spoil are answered here as the document says.
func TestEveryRouteWorksWhenAskedRightly(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		for _, op := range h.ops {
			if a := h.send(h.clean(op, h.furnish(proofTenant))); a.status != op.status {
				t.Errorf("%s: %d %s; want %d", op.id, a.status, a.body, op.status)
			}
		}
		t.Logf("%d routes", len(h.ops))
	})
}

// TestEveryPathKnowsItsMethods asks every path of the document by every method: what no
// route takes is 405, with exactly the methods that there are, and opens nothing.
func TestEveryPathKnowsItsMethods(t *testing.T) {
	h := newAPIHouse(t, "sqlite", quiet())
	th := h.furnish(proofTenant)
	methods := map[string][]string{}
	for _, op := range h.ops {
		path := h.path(op, op.ids(t, th))
		for _, other := range h.ops {
			if other.takes(path) && !slices.Contains(methods[path], other.method) {
				methods[path] = append(methods[path], other.method)
			}
		}
	}
	asked, before := 0, h.everyRow("")
	for path, taken := range methods {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			if slices.Contains(taken, method) || method == "HEAD" && !strings.HasPrefix(path, "/v1/") && slices.Contains(taken, "GET") {
				continue
			}
			asked++
			a := h.send(apiCall{method: method, path: path, header: http.Header{"Authorization": {"Bearer " + h.admin}, "Agent-Secret-Key": {th.agentKey}, "Origin": {"https://evil.example.com"}, "Access-Control-Request-Method": {"POST"}}})
			allow := strings.Split(a.header.Get("Allow"), ", ")
			slices.Sort(allow)
			slices.Sort(taken)
			if a.status != 405 || !slices.Equal(allow, taken) {
				t.Errorf("%s %s: %d, Allow %v; want 405 and %v", method, path, a.status, allow, taken)
			}
			safelyHeaded(t, method+" "+path, a)
		}
	}
	if row := differing(before, h.everyRow("")); row != "" {
		t.Error(row)
	}
	t.Logf("%d paths, %d calls with another method", len(methods), asked)
}

// TestEveryAnswerIsSafelyHeaded looks at the headers of answers of every status that
// every route gives.
func TestEveryAnswerIsSafelyHeaded(t *testing.T) {
	h := newAPIHouse(t, "sqlite", quiet())
	seen := map[int]int{}
	for _, op := range h.ops {
		th := h.furnish(proofTenant)
		right := h.clean(op, th)
		wrong, nobody := right, right
		wrong.body, wrong.path = `{"zzz":`, right.path+"?limit=x"
		nobody.header = http.Header{}
		for _, c := range []apiCall{wrong, nobody, right} {
			c.header = c.header.Clone()
			c.header.Set("Origin", "https://evil.example.com")
			a := h.send(c)
			seen[a.status]++
			safelyHeaded(t, op.id, a)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/nothing", "/v1/nothing", "/external/nothing", "/global/nothing", "/v4/nothing", "/hooks/telegram/x", "/hooks/none/x/y"} {
		a := h.send(apiCall{method: "GET", path: path, header: http.Header{"Origin": {"https://evil.example.com"}}})
		seen[a.status]++
		if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: HTML without a policy", path)
		}
		open := map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/openapi.json": true, "/docs": true}[path]
		guarded(t, path, a, !open && !strings.HasPrefix(path, "/hooks/") && path != "/nothing")
	}
	t.Logf("answers by status: %v", seen)
}

// takes reports whether a path is one of the operation's.
func (op *apiOp) takes(path string) bool {
	pattern, given := strings.Split(op.path, "/"), strings.Split(path, "/")
	return slices.EqualFunc(pattern, given, func(p, g string) bool { return p == g || strings.HasPrefix(p, "{") })
}

func safelyHeaded(t *testing.T, what string, a said) {
	t.Helper()
	guarded(t, what, a, true)
}

// guarded holds the headers of an answer to what a browser must be told. Private answers
// must be kept nowhere.
func guarded(t *testing.T, what string, a said, private bool) {
	t.Helper()
	if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: %d %v", what, a.status, a.header)
	}
	if private && a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %d may be kept: Cache-Control %q", what, a.status, a.header.Get("Cache-Control"))
	}
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" || name == "Server" {
			t.Errorf("%s: %d has the header %s", what, a.status, name)
		}
	}
}
