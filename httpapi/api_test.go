package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/identity"
)

// A harness is a running API with two tenants and their data.
type harness struct {
	t         *testing.T
	api       *API
	store     *httpapitest.Store
	endpoints *httpapitest.Endpoints
	claims    *httpapitest.Claims
	server    *httptest.Server
	log       *httpapitest.LogBuffer
	clock     time.Time

	adminToken, foreignToken                                string // of keys of the two tenants with all scopes
	adminKey                                                string // ID of the key of adminToken
	instance, otherInstance, foreignInstance                string // two of the default tenant, one of the other tenant
	customer, foreignCustomer                               string
	tenantIdentity, instanceIdentity, otherInstanceIdentity string // of customer: for all instances, or for one
	sender, otherSender                                     string // unknown senders of instance and otherInstance
	foreignIdentity                                         string
}

func newHarness(t *testing.T, change ...func(*API)) *harness {
	t.Helper()
	now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	h := &harness{
		t: t, store: httpapitest.NewStore(now), log: &httpapitest.LogBuffer{}, clock: now,
	}
	h.endpoints, h.claims = &httpapitest.Endpoints{Store: h.store}, &httpapitest.Claims{Store: h.store}
	h.api = &API{
		Stores: stores(h.store), Endpoints: h.endpoints, Claims: h.claims, Confirmer: h.store, Version: "1.2.3",
		Log: slog.New(slog.NewJSONHandler(h.log, nil)), Now: func() time.Time { return h.clock },
	}
	h.api.Limiter = &operation.RateLimiter{Rate: 1e6, Burst: 1e6, Now: h.api.Now}
	for _, c := range change {
		c(h.api)
	}
	h.server = httptest.NewServer(h.api.Handler())
	t.Cleanup(h.server.Close)
	h.seed()
	return h
}

func (h *harness) seed() {
	ctx := context.Background()
	h.adminToken = h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	keys, _ := h.store.ListAPIKeys(ctx, identity.DefaultTenant, "", 1)
	h.adminKey = keys[0].ID
	h.foreignToken = h.newKey(identity.APIKey{TenantID: otherTenant, Scopes: identity.Scopes})
	instance := func(tenant string) string {
		i, _ := h.store.CreateInstance(
			ctx, gateway.Instance{TenantID: tenant, Name: "Support", UnknownSenders: gateway.ForwardUnknown},
			gateway.InstanceSecrets{}, "",
		)
		return i.ID
	}
	h.instance, h.otherInstance = instance(identity.DefaultTenant), instance(identity.DefaultTenant)
	h.foreignInstance = instance(otherTenant)
	customer := func(tenant string) string {
		c, _ := h.store.CreateCustomer(
			ctx, identity.Customer{TenantID: tenant, Email: "steve@example.com", FirstName: "Steve"}, "",
		)
		return c.ID
	}
	h.customer, h.foreignCustomer = customer(identity.DefaultTenant), customer(otherTenant)
	link := func(tenant, customer, instance, id string) string {
		i, err := h.store.Link(
			ctx,
			identity.Identity{
				TenantID: tenant, CustomerID: customer, InstanceID: instance, Channel: "telegram", ExternalID: id,
			},
			"",
		)
		if err != nil {
			h.t.Fatal(err)
		}
		return i.ID
	}
	h.tenantIdentity = link(identity.DefaultTenant, h.customer, "", "12345")
	h.instanceIdentity = link(identity.DefaultTenant, h.customer, h.instance, "12346")
	h.otherInstanceIdentity = link(identity.DefaultTenant, h.customer, h.otherInstance, "12347")
	h.foreignIdentity = link(otherTenant, h.foreignCustomer, "", "12345")
	h.sender, h.otherSender = h.addUnknownSender(h.instance, "777"), h.addUnknownSender(h.otherInstance, "778")
}

func (h *harness) addUnknownSender(instance, id string) string {
	return h.store.AddIdentity(identity.Identity{
		TenantID: identity.DefaultTenant, InstanceID: instance, Channel: "telegram", ExternalID: id,
	})
}

// newKey creates an API key and returns its token.
func (h *harness) newKey(k identity.APIKey) string {
	token := identity.NewToken("hg_live_")
	_, _ = h.store.CreateAPIKey(context.Background(), k, identity.HashToken(token), "")
	return token
}

// newInstanceKey returns the token of a key that is limited to instance.
func (h *harness) newInstanceKey(scopes ...string) string {
	return h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: scopes, InstanceID: h.instance})
}

// A response is the response to a request of a test.
type response struct {
	status int
	header http.Header
	body   string
}

// request sends a request with the key adminToken. Headers have the form "Name: value"; a header
// without a value is removed.
func (h *harness) request(method, path, body string, headers ...string) response {
	h.t.Helper()
	r, err := http.NewRequest(method, h.server.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.adminToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return h.send(r)
}

func (h *harness) send(r *http.Request) response {
	h.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// lineBreak matches what a wanted body may contain to be readable.
var lineBreak = regexp.MustCompile(`\n\t+`)

// expect fails the test unless the response has the status and, if body is not empty, the body. Line
// breaks in body, with the tabs after them, do not count.
func (h *harness) expect(got response, status int, body string) {
	h.t.Helper()
	body = lineBreak.ReplaceAllString(body, "")
	if got.status != status || body != "" && got.body != body {
		h.t.Errorf("response = %d %s\nwant %d %s", got.status, got.body, status, body)
	}
}

// fields decodes the body.
func (r response) fields(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("response = %d %s: %v", r.status, r.body, err)
	}
	return m
}

func stores(s *httpapitest.Store) Stores {
	return Stores{
		Health: s, Auth: s, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s, Codes: s,
		Instances: s, Tenants: s, Secrets: s, Audit: s, Idempotency: s,
	}
}

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

const otherTenant = "00000000-0000-7000-8000-000000000002"
