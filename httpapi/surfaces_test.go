package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
)

func newSurfaceHarness(t *testing.T, change ...func(*API)) (*harness, *httpapitest.Surfaces) {
	f := &httpapitest.Surfaces{}
	return newHarness(t, append([]func(*API){func(a *API) {
		users, contacts := &userapi.API{Store: f, Limiter: a.Limiter}, &contactapi.API{Store: f}
		a.Surfaces = []*operation.Surface{users.Surface(), contacts.Surface()}
	}}, change...)...), f
}

// requestSurface sends the example request of a route of a surface with the key of the surface.
func (h *harness) requestSurface(to *operation.Route) response {
	path := strings.ReplaceAll(to.Path, "{id}", unknownID)
	if to.ID == "external_search_user" {
		path += "?fkId=1"
	}
	return h.request(to.Method, path, to.Example.Request, "Agent-Secret-Key: "+httpapitest.AgentSecretKey)
}

func TestSurface_MatchesExamples(t *testing.T) {
	h, _ := newSurfaceHarness(t)
	for _, to := range h.api.surfaceRoutes() {
		got := h.requestSurface(to)
		h.expect(got, to.Status, "")
		if to.Status == 204 {
			h.expect(got, 204, "")
			continue
		}
		var want, have any
		if err := errors.Join(
			json.Unmarshal([]byte(to.Example.Response), &want), json.Unmarshal([]byte(got.body), &have),
		); err != nil {
			t.Fatalf("%s: %v", to.ID, err)
		}
		if !sameShape(want, have) {
			t.Errorf("%s: response = %s\nwant the fields of %s", to.ID, got.body, to.Example.Response)
		}
	}
}

// TestSurface_Failures checks the response of each route of the surfaces to internal errors.
func TestSurface_Failures(t *testing.T) {
	h, f := newSurfaceHarness(t)
	const (
		userError    = `{"status":500,"message":"Internal Server Error"}`
		contactError = `{"errorCode":"InternalServerError","message":"Internal Server Error"}`
	)
	for name, c := range map[string]struct {
		err            error
		panics         bool
		status         int
		user, contacts string
	}{
		"unexpected error": {errors.New("dial: canary"), false, 500, userError, contactError},
		"panic":            {nil, true, 500, userError, contactError},
		"timeout": {
			context.DeadlineExceeded, false, 503, `{"status":503,"message":"Service Unavailable"}`,
			`{"errorCode":"ServiceUnavailable","message":"Service Unavailable"}`,
		},
	} {
		f.Err, f.Panic = c.err, c.panics
		for _, to := range h.api.surfaceRoutes() {
			want := c.contacts
			if to.Tag == userapi.TagUsers {
				want = c.user
			}
			if got := h.requestSurface(to); got.status != c.status || got.body != want ||
				got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %s %v", name, to.ID, got.status, got.body, got.header)
			}
		}
	}
	if log := h.log.String(); !strings.Contains(log, "handler panicked") || strings.Contains(log, "hg_live_canary") {
		t.Errorf("log = %s", log)
	}
}

func TestSurface_RateLimit(t *testing.T) {
	h, _ := newSurfaceHarness(t, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 1, 1 })
	h.expect(h.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: "+httpapitest.AgentSecretKey), 200, "")
	got := h.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: "+httpapitest.AgentSecretKey)
	h.expect(
		got,
		429,
		`{"status":429,"name":"TOO_MANY_REQUESTS_ERROR","message":"RATE_LIMIT_EXCEEDED",
			"details":[{"message":"Too Many Requests"}]}`,
	)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("header = %v, want Retry-After 1", got.header)
	}
	h.expect(h.request("GET", "/v4/global/contactIdentities", ""), 200, "")
	h.expect(
		h.request("GET", "/v4/global/contactIdentities", ""),
		429,
		`{"errorCode":"TooManyRequests","message":"Too Many Requests"}`,
	)
}

// TestSurface_Disabled checks that an API without surfaces does not serve or document them.
func TestSurface_Disabled(t *testing.T) {
	h := newHarness(t)
	got := h.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: "+httpapitest.AgentSecretKey)
	h.expect(got, 404, `{"detail":"Not Found"}`)
	h.expect(h.request("GET", "/global/contactIdentities", ""), 404, `{"detail":"Not Found"}`)
	if strings.Contains(h.request("GET", "/openapi.json", "").body, "contactIdentities") {
		t.Error("the document contains a surface that is not served")
	}
}

func TestSurface_OpenAPI(t *testing.T) {
	h, _ := newSurfaceHarness(t)
	var doc struct {
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Tags       []struct{ Name string }              `json:"tags"`
		Components struct {
			Schemas         map[string]any `json:"schemas"`
			SecuritySchemes map[string]any `json:"securitySchemes"`
		} `json:"components"`
	}
	text := h.request("GET", "/openapi.json", "").body
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{userapi.TagUsers, contactapi.TagContacts} {
		if !slices.ContainsFunc(doc.Tags, func(d struct{ Name string }) bool { return d.Name == tag }) {
			t.Errorf("no tag %s", tag)
		}
	}
	for _, to := range h.api.surfaceRoutes() {
		op := doc.Paths[to.Path][strings.ToLower(to.Method)]
		if op == nil || op["operationId"] != to.ID || op["security"] == nil ||
			strings.Contains(op["description"].(string), "``") {
			t.Errorf("%s: %v", to.ID, op)
			continue
		}
		responses := op["responses"].(map[string]any)
		for _, status := range append(to.Surface.RouteErrorStatuses(to), to.Status) {
			media := jsonMedia(responses[strconv.Itoa(status)])
			if status != 204 && (media["schema"] == nil || media["example"] == nil) {
				t.Errorf("%s %d: no schema or no example", to.ID, status)
			}
			if schema, _ := media["schema"].(map[string]any); status >= 400 &&
				schema["$ref"] != operation.SchemaPrefix+to.Surface.ErrorSchema {
				t.Errorf("%s %d: %v", to.ID, status, schema)
			}
		}
		if responses["422"] != nil || strings.Contains(text, "ErrorModel") {
			t.Errorf("%s: document contains errors of another surface", to.ID)
		}
	}
	for _, ref := range strings.Split(text, `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(ref, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	if doc.Components.SecuritySchemes["agentSecretKey"] == nil {
		t.Error("no security scheme for agents")
	}
}
