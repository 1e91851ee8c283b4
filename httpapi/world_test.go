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
	"hydragate/identity"
)

const otherTenant = "00000000-0000-7000-8000-000000000002"

// A world is a served API with two tenants, and what is in them.
type world struct {
	t        *testing.T
	api      *API
	store    *fakeStore
	channels *fakeChannels
	desk     *fakeDesk
	server   *httptest.Server
	log      *lockedBuffer
	clock    time.Time

	token, foreign           string // admin keys of the two tenants
	bot, otherBot, strange   string // instances: two of ours, one of the other tenant
	steve, strangeCustomer   string
	linked, scoped, elsewise string // identities of Steve: of all instances, of bot, of otherBot
	sender, otherSender      string // unknown senders of bot and of otherBot
	strangeIdentity          string
}

func newWorld(t *testing.T, change ...func(*API)) *world {
	t.Helper()
	now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	w := &world{t: t, store: newFakeStore(now), channels: &fakeChannels{}, desk: &fakeDesk{}, log: &lockedBuffer{}, clock: now}
	w.channels.store, w.desk.store = w.store, w.store
	w.api = &API{
		Store: w.store, Channels: w.channels, Desk: w.desk, Rate: 1e6, Burst: 1e6, Version: "1.2.3",
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return w.clock },
	}
	for _, c := range change {
		c(w.api)
	}
	w.server = httptest.NewServer(w.api.Handler())
	t.Cleanup(w.server.Close)
	w.furnish()
	return w
}

func (w *world) furnish() {
	ctx := context.Background()
	w.token = w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	w.foreign = w.key(identity.APIKey{TenantID: otherTenant, Scopes: identity.Scopes})
	instance := func(tenant string) string {
		i, _ := w.store.CreateInstance(ctx, gateway.Instance{TenantID: tenant, Name: "Support", UnknownSenders: gateway.Forward}, gateway.InstanceSecrets{}, "")
		return i.ID
	}
	w.bot, w.otherBot, w.strange = instance(identity.DefaultTenant), instance(identity.DefaultTenant), instance(otherTenant)
	customer := func(tenant string) string {
		c, _ := w.store.CreateCustomer(ctx, identity.Customer{TenantID: tenant, Email: "steve@example.com", FirstName: "Steve"}, "")
		return c.ID
	}
	w.steve, w.strangeCustomer = customer(identity.DefaultTenant), customer(otherTenant)
	link := func(tenant, customer, instance, id string) string {
		i, err := w.store.Link(ctx, identity.Identity{TenantID: tenant, CustomerID: customer, InstanceID: instance, Channel: "telegram", ExternalID: id}, "")
		if err != nil {
			w.t.Fatal(err)
		}
		return i.ID
	}
	w.linked = link(identity.DefaultTenant, w.steve, "", "12345")
	w.scoped = link(identity.DefaultTenant, w.steve, w.bot, "12346")
	w.elsewise = link(identity.DefaultTenant, w.steve, w.otherBot, "12347")
	w.strangeIdentity = link(otherTenant, w.strangeCustomer, "", "12345")
	w.sender, w.otherSender = w.unknown(w.bot, "777"), w.unknown(w.otherBot, "778")
}

func (w *world) unknown(instance, id string) string {
	defer w.store.lock()()
	i := identity.Identity{ID: w.store.id(), TenantID: identity.DefaultTenant, InstanceID: instance, Channel: "telegram", ExternalID: id}
	w.store.identities = append(w.store.identities, i)
	return i.ID
}

// key makes an API key and gives its token.
func (w *world) key(k identity.APIKey) string {
	token := identity.NewToken("hg_live_")
	_, _ = w.store.CreateAPIKey(context.Background(), k, identity.HashToken(token), "")
	return token
}

// limited is a key of one instance, with the scopes given.
func (w *world) limited(scopes ...string) string {
	return w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: scopes, InstanceID: w.bot})
}

// A reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as the admin of the default tenant. Headers are "Name: value";
// one with an empty value is not sent.
func (w *world) ask(method, path, body string, headers ...string) reply {
	w.t.Helper()
	r, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
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

func (w *world) send(r *http.Request) reply {
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
	return reply{answer.StatusCode, answer.Header, string(body)}
}

func as(token string) string { return "Authorization: Bearer " + token }

// want fails the test unless the answer has this status and, when given, this body.
func (w *world) want(got reply, status int, body string) {
	w.t.Helper()
	if got.status != status || body != "" && got.body != body {
		w.t.Errorf("got %d %s\nwant %d %s", got.status, got.body, status, body)
	}
}

func (r reply) fields(t *testing.T) map[string]any {
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

type fakeDesk struct {
	store *fakeStore
	err   error
}

func (d *fakeDesk) Issue(ctx context.Context, tenant, customer, id string, _ identity.Actor) (claim.Issued, error) {
	i, err := d.store.Identity(ctx, tenant, customer, id)
	switch {
	case err != nil:
		return claim.Issued{}, err
	case d.err != nil:
		return claim.Issued{}, d.err
	case i.IsVerified():
		return claim.Issued{}, identity.ErrVerified
	}
	return claim.Issued{Code: "WDJBMJ", TenantID: tenant, InstanceID: i.InstanceID, Channel: i.Channel, IdentityID: id}, nil
}

type fakeChannels struct {
	mu    sync.Mutex
	store *fakeStore
	seats []gateway.Seat
	err   error // what Configure answers, when set
	given adapters.Credentials
}

func (c *fakeChannels) Configure(ctx context.Context, tenant, instance string, channel adapters.Channel, mode adapters.Mode, creds adapters.Credentials, address string, _ identity.Actor, _ ...time.Duration) (gateway.Seat, error) {
	if _, err := c.store.Instance(ctx, tenant, instance); err != nil || c.err != nil {
		return gateway.Seat{}, orElse(c.err, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given = creds
	s := gateway.Seat{Status: gateway.Active, Endpoint: adapters.Endpoint{
		TenantID: tenant, InstanceID: instance, Channel: channel, Mode: mode, Address: address,
		WebhookURL: "https://gate.example.com/hooks/" + string(channel) + "/" + instance,
		Settings:   map[string]string{adapters.BotUsername: "acme_bot", adapters.BotUserID: "U023BECGF", adapters.TeamName: "Acme"},
	}}
	c.seats = append(c.seats, s)
	return s, nil
}

func orElse(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func (c *fakeChannels) Seat(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.Seat, error) {
	seats, err := c.Seats(ctx, tenant, instance)
	for _, s := range seats {
		if s.Channel == channel {
			return s, nil
		}
	}
	return gateway.Seat{}, orElse(err, gateway.ErrNoEndpoint)
}

func (c *fakeChannels) Seats(ctx context.Context, tenant, instance string) ([]gateway.Seat, error) {
	if _, err := c.store.Instance(ctx, tenant, instance); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return some(c.seats, 10, func(s gateway.Seat) bool { return s.InstanceID == instance }), nil
}

func (c *fakeChannels) Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, _ identity.Actor) error {
	if _, err := c.Seat(ctx, tenant, instance, channel); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats = nil
	return nil
}
