package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

const otherTenant = "00000000-0000-7000-8000-000000000002"

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
