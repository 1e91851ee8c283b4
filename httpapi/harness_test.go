package httpapi

import (
	"bytes"
	"context"
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

const otherTenant = "00000000-0000-7000-8000-000000000002"

// A harness is a served API with two tenants, and what is in them.
type harness struct {
	t         *testing.T
	api       *API
	store     *fakeStore
	endpoints *fakeEndpoints
	claims    *fakeClaims
	server    *httptest.Server
	log       *lockedBuffer
	clock     time.Time

	adminToken, foreignToken                                string // admin keys of the two tenants
	instance, otherInstance, foreignInstance                string // instances: two of ours, one of the other tenant
	customer, foreignCustomer                               string
	tenantIdentity, instanceIdentity, otherInstanceIdentity string // identities of Steve: of all instances, of bot, of otherBot
	sender, otherSender                                     string // unknown senders of bot and of otherBot
	foreignIdentity                                         string
}

func newHarness(t *testing.T, change ...func(*API)) *harness {
	t.Helper()
	now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	w := &harness{t: t, store: newFakeStore(now), endpoints: &fakeEndpoints{}, claims: &fakeClaims{}, log: &lockedBuffer{}, clock: now}
	w.endpoints.store, w.claims.store = w.store, w.store
	w.api = &API{
		Stores: w.store.stores(), Endpoints: w.endpoints, Claims: w.claims, Version: "1.2.3",
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return w.clock },
	}
	w.api.Limiter = &operation.RateLimiter{Rate: 1e6, Burst: 1e6, Now: w.api.Now}
	for _, c := range change {
		c(w.api)
	}
	w.server = httptest.NewServer(w.api.Handler())
	t.Cleanup(w.server.Close)
	w.seed()
	return w
}

func (w *harness) seed() {
	ctx := context.Background()
	w.adminToken = w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	w.foreignToken = w.newKey(identity.APIKey{TenantID: otherTenant, Scopes: identity.Scopes})
	instance := func(tenant string) string {
		i, _ := w.store.CreateInstance(ctx, gateway.Instance{TenantID: tenant, Name: "Support", UnknownSenders: gateway.ForwardUnknown}, gateway.InstanceSecrets{}, "")
		return i.ID
	}
	w.instance, w.otherInstance, w.foreignInstance = instance(identity.DefaultTenant), instance(identity.DefaultTenant), instance(otherTenant)
	customer := func(tenant string) string {
		c, _ := w.store.CreateCustomer(ctx, identity.Customer{TenantID: tenant, Email: "steve@example.com", FirstName: "Steve"}, "")
		return c.ID
	}
	w.customer, w.foreignCustomer = customer(identity.DefaultTenant), customer(otherTenant)
	link := func(tenant, customer, instance, id string) string {
		i, err := w.store.Link(ctx, identity.Identity{TenantID: tenant, CustomerID: customer, InstanceID: instance, Channel: "telegram", ExternalID: id}, "")
		if err != nil {
			w.t.Fatal(err)
		}
		return i.ID
	}
	w.tenantIdentity = link(identity.DefaultTenant, w.customer, "", "12345")
	w.instanceIdentity = link(identity.DefaultTenant, w.customer, w.instance, "12346")
	w.otherInstanceIdentity = link(identity.DefaultTenant, w.customer, w.otherInstance, "12347")
	w.foreignIdentity = link(otherTenant, w.foreignCustomer, "", "12345")
	w.sender, w.otherSender = w.addUnknownSender(w.instance, "777"), w.addUnknownSender(w.otherInstance, "778")
}

func (w *harness) addUnknownSender(instance, id string) string {
	defer w.store.lock()()
	i := identity.Identity{ID: w.store.id(), TenantID: identity.DefaultTenant, InstanceID: instance, Channel: "telegram", ExternalID: id}
	w.store.identities = append(w.store.identities, i)
	return i.ID
}

// newKey makes an API key and gives its token.
func (w *harness) newKey(k identity.APIKey) string {
	token := identity.NewToken("hg_live_")
	_, _ = w.store.CreateAPIKey(context.Background(), k, identity.HashToken(token), "")
	return token
}

// newInstanceKey is a key of one instance, with the scopes given.
func (w *harness) newInstanceKey(scopes ...string) string {
	return w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: scopes, InstanceID: w.instance})
}

// A response is what came back.
type response struct {
	status int
	header http.Header
	body   string
}

// request sends a request as the admin of the default tenant. Headers are "Name: value";
// one with an empty value is not sent.
func (w *harness) request(method, path, body string, headers ...string) response {
	w.t.Helper()
	r, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.adminToken)
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
	return w.send(r)
}

func (w *harness) send(r *http.Request) response {
	w.t.Helper()
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response{answer.StatusCode, answer.Header, string(body)}
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// expect fails the test unless the answer has this status and, when given, this body.
func (w *harness) expect(got response, status int, body string) {
	w.t.Helper()
	if got.status != status || body != "" && got.body != body {
		w.t.Errorf("got %d %s\nwant %d %s", got.status, got.body, status, body)
	}
}

func (r response) fields(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
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

func (d *fakeClaims) IssueCode(ctx context.Context, k identity.Key, _ identity.Actor) (claim.IssuedCode, error) {
	i, err := d.store.Identity(ctx, k)
	switch {
	case err != nil:
		return claim.IssuedCode{}, err
	case d.err != nil:
		return claim.IssuedCode{}, d.err
	case i.IsVerified():
		return claim.IssuedCode{}, identity.ErrAlreadyVerified
	}
	return claim.IssuedCode{Code: "WDJBMJ", TenantID: k.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, IdentityID: k.IdentityID}, nil
}

type fakeEndpoints struct {
	mu          sync.Mutex
	store       *fakeStore
	seats       []gateway.EndpointState
	err         error // what Configure answers, when set
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
		Settings:   map[string]string{adapters.BotUsername: "acme_bot", adapters.BotUserID: "U023BECGF", adapters.TeamName: "Acme"},
	}}
	c.seats = append(c.seats, s)
	return s, nil
}

func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func (c *fakeEndpoints) EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error) {
	seats, err := c.EndpointStates(ctx, tenant, instance)
	for _, s := range seats {
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
	return filterRows(c.seats, 10, func(s gateway.EndpointState) bool { return s.InstanceID == instance }), nil
}

func (c *fakeEndpoints) Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, _ identity.Actor) error {
	if _, err := c.EndpointState(ctx, tenant, instance, channel); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats = nil
	return nil
}
