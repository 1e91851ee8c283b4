package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

func TestCreateInstance_SecretsShownOnce(t *testing.T) {
	h := newHarness(t, func(a *API) { a.AllowPrivateAgentURLs = true })
	made := h.request("POST", "/v1/instances", `{"name":"Support","agent_url":"http://127.0.0.1:9000/events"}`).fields(t)
	secret, _ := strings.CutPrefix(made["webhook_secret"].(string), "whsec_")
	if raw, err := base64.StdEncoding.DecodeString(secret); err != nil || len(raw) != 32 || !strings.HasPrefix(
		made["agent_secret_key"].(string), "ask_",
	) {
		t.Errorf("%v", made)
	}
	if again := h.request("GET", "/v1/instances/"+made["id"].(string), "").body; strings.Contains(again, "secret") {
		t.Error(again)
	}
}

const otherTenant = "00000000-0000-7000-8000-000000000002"

// A harness is a running API with two tenants and their data.
type harness struct {
	t         *testing.T
	api       *API
	store     *fakeStore
	endpoints *fakeEndpoints
	claims    *fakeClaims
	server    *httptest.Server
	log       *lockedBuffer
	clock     time.Time

	adminToken, foreignToken                                string // of keys of the two tenants with all scopes
	instance, otherInstance, foreignInstance                string // two of the default tenant, one of the other tenant
	customer, foreignCustomer                               string
	tenantIdentity, instanceIdentity, otherInstanceIdentity string // of customer: for all instances, instance and otherInstance
	sender, otherSender                                     string // unknown senders of instance and otherInstance
	foreignIdentity                                         string
}

func newHarness(t *testing.T, change ...func(*API)) *harness {
	t.Helper()
	now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	h := &harness{
		t: t, store: newFakeStore(now), endpoints: &fakeEndpoints{}, claims: &fakeClaims{}, log: &lockedBuffer{},
		clock: now,
	}
	h.endpoints.store, h.claims.store = h.store, h.store
	h.api = &API{
		Stores: h.store.stores(), Endpoints: h.endpoints, Claims: h.claims, Version: "1.2.3",
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
	h.foreignToken = h.newKey(identity.APIKey{TenantID: otherTenant, Scopes: identity.Scopes})
	instance := func(tenant string) string {
		i, _ := h.store.CreateInstance(
			ctx, gateway.Instance{TenantID: tenant, Name: "Support", UnknownSenders: gateway.ForwardUnknown},
			gateway.InstanceSecrets{}, "",
		)
		return i.ID
	}
	h.instance, h.otherInstance, h.foreignInstance = instance(
		identity.DefaultTenant,
	), instance(
		identity.DefaultTenant,
	), instance(
		otherTenant,
	)
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
	defer h.store.lock()()
	i := identity.Identity{
		ID: h.store.id(), TenantID: identity.DefaultTenant, InstanceID: instance, Channel: "telegram", ExternalID: id,
	}
	h.store.identities = append(h.store.identities, i)
	return i.ID
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

// expect fails the test unless the response has the status and, if body is not empty, the body.
func (h *harness) expect(got response, status int, body string) {
	h.t.Helper()
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

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type fakeClaims struct {
	store *fakeStore
	err   error
}

func (c *fakeClaims) IssueCode(ctx context.Context, k identity.Key, _ identity.Actor) (claim.IssuedCode, error) {
	i, err := c.store.Identity(ctx, k)
	switch {
	case err != nil:
		return claim.IssuedCode{}, err
	case c.err != nil:
		return claim.IssuedCode{}, c.err
	case i.IsVerified():
		return claim.IssuedCode{}, identity.ErrAlreadyVerified
	}
	return claim.IssuedCode{
		Code: "WDJBMJ", TenantID: k.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, IdentityID: k.IdentityID,
	}, nil
}

type fakeEndpoints struct {
	mu          sync.Mutex
	store       *fakeStore
	states      []gateway.EndpointState
	err         error // returned by Configure if not nil
	credentials adapters.Credentials
}

func (c *fakeEndpoints) Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error) {
	if _, err := c.store.Instance(ctx, cfg.TenantID, cfg.InstanceID); err != nil || c.err != nil {
		return gateway.EndpointState{}, firstError(c.err, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credentials = cfg.Credentials
	s := gateway.EndpointState{Status: gateway.EndpointActive, Endpoint: adapters.Endpoint{
		TenantID: cfg.TenantID, InstanceID: cfg.InstanceID, Channel: cfg.Channel, Mode: cfg.Mode, Address: cfg.Address,
		WebhookURL: "https://gate.example.com/hooks/" + string(cfg.Channel) + "/" + cfg.InstanceID,
		Settings: map[string]string{
			adapters.BotUsername: "acme_bot", adapters.BotUserID: "U023BECGF", adapters.TeamName: "Acme",
		},
	}}
	c.states = append(c.states, s)
	return s, nil
}

func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func (c *fakeEndpoints) EndpointState(
	ctx context.Context, tenant, instance string, channel adapters.Channel,
) (gateway.EndpointState, error) {
	states, err := c.EndpointStates(ctx, tenant, instance)
	for _, s := range states {
		if s.Channel == channel {
			return s, nil
		}
	}
	return gateway.EndpointState{}, firstError(err, gateway.ErrNoEndpoint)
}

func (c *fakeEndpoints) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	if _, err := c.store.Instance(ctx, tenant, instance); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return filterRows(c.states, 10, func(s gateway.EndpointState) bool { return s.InstanceID == instance }), nil
}

func (c *fakeEndpoints) Remove(
	ctx context.Context, tenant, instance string, channel adapters.Channel, _ identity.Actor,
) error {
	if _, err := c.EndpointState(ctx, tenant, instance, channel); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = nil
	return nil
}
