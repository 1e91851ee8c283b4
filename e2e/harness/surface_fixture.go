//go:build unix

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/httpapi"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
	"hydragate/store/storetest"
)

// SurfacePublicURL is the public URL of the API of a SurfaceFixture.
const SurfacePublicURL = "https://gate.example.com"

// A SurfaceFixture is the HTTP API with its compatibility surfaces on a store, without workers,
// channels and request limits. It has two tenants, the first of which has two instances.
type SurfaceFixture struct {
	*store.Store
	T                           *testing.T
	API                         *httpapi.API
	DB                          *DB
	TenantID, OtherTenantID     string
	InstanceID, OtherInstanceID string        // of the first tenant
	AgentKey, OtherAgentKey     string        // of the instances
	ForeignAgentKey             string        // of an instance of the other tenant
	Token, ForeignToken         string        // API keys of the tenants, with every scope
	KeyLookups                  *atomic.Int32 // statements that looked up API keys and agent keys
	url                         string
}

// countingStore counts the look-ups of keys.
type countingStore struct {
	*store.Store
	lookups *atomic.Int32
}

// APIKeys implements httpapi.AuthStore.
func (s countingStore) APIKeys(ctx context.Context, hashes []string) (map[string]identity.APIKey, error) {
	s.lookups.Add(1)
	return s.Store.APIKeys(ctx, hashes)
}

// InstancesByAgentKeys implements userapi.Store.
func (s countingStore) InstancesByAgentKeys(
	ctx context.Context, hashes []string,
) (map[string]gateway.Instance, error) {
	s.lookups.Add(1)
	return s.Store.InstancesByAgentKeys(ctx, hashes)
}

// ForEachSurfaceEngine runs test on each engine with a fixture on a new database.
func ForEachSurfaceEngine(t *testing.T, test func(t *testing.T, f *SurfaceFixture)) {
	for engine, newDatabase := range map[Engine]func(*testing.T) string{
		SQLite: storetest.NewSQLite, Postgres: storetest.NewPostgres,
	} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, newSurfaceFixture(t, newDatabase(t)))
		})
	}
}

func newSurfaceFixture(t *testing.T, dsn string) *SurfaceFixture {
	t.Helper()
	keys, err := keyring.Parse(keyring.GenerateKey("test"))
	f := &SurfaceFixture{T: t, KeyLookups: &atomic.Int32{}}
	f.must(err)
	f.Store, err = store.Open(context.Background(), dsn, keys)
	f.must(err)
	t.Cleanup(f.Store.Close)
	f.DB = OpenDatabase(t, dsn)
	f.serve()
	f.TenantID, f.OtherTenantID = f.newTenant(), f.newTenant()
	f.InstanceID, f.AgentKey = f.newInstance(f.TenantID)
	f.OtherInstanceID, f.OtherAgentKey = f.newInstance(f.TenantID)
	_, f.ForeignAgentKey = f.newInstance(f.OtherTenantID)
	f.Token, f.ForeignToken = f.NewKey(f.TenantID, ""), f.NewKey(f.OtherTenantID, "")
	return f
}

// serve serves the API until the test ends.
func (f *SurfaceFixture) serve() {
	s, limiter, failures := f.Store, &operation.RateLimiter{Rate: 1e6, Burst: 1e6}, &operation.FailureLimiter{}
	counting := countingStore{s, f.KeyLookups}
	// Requests choose their client network with the header X-Forwarded-For.
	proxies := operation.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	users := &userapi.API{Store: counting, Limiter: limiter, Failures: failures, Proxies: proxies}
	contacts := &contactapi.API{Store: s, PublicURL: SurfacePublicURL}
	f.API = &httpapi.API{
		Stores: httpapi.Stores{
			Health: s, Auth: counting, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s,
			Instances: s, Tenants: s, Secrets: s, Audit: s, Idempotency: s,
		},
		Surfaces: []*operation.Surface{users.Surface(), contacts.Surface()}, PublicURL: SurfacePublicURL, Limiter: limiter,
		Failures: failures, Proxies: proxies,
	}
	server := httptest.NewServer(f.API.Handler())
	f.T.Cleanup(server.Close)
	f.url = server.URL
}

// In returns the fixture for a subtest.
func (f *SurfaceFixture) In(t *testing.T) *SurfaceFixture {
	sub := *f
	sub.T = t
	return &sub
}

func (f *SurfaceFixture) must(err error) {
	f.T.Helper()
	if err != nil {
		f.T.Fatal(err)
	}
}

func (f *SurfaceFixture) newTenant() string {
	id := RandomID()
	f.DB.Exec(`insert into tenants (id, name) values ($1, $2)`, id, "tenant "+id)
	return id
}

func (f *SurfaceFixture) newInstance(tenant string) (id, agentKey string) {
	f.T.Helper()
	agentKey = identity.NewToken("ask_")
	i, err := f.CreateInstance(f.T.Context(), gateway.Instance{TenantID: tenant, Name: "bot"},
		gateway.InstanceSecrets{AgentSecretKey: agentKey}, identity.System)
	f.must(err)
	return i.ID, agentKey
}

// NewKey creates an API key, of an instance unless it is empty, and returns its token. The key has
// every scope if none is given.
func (f *SurfaceFixture) NewKey(tenant, instance string, scopes ...string) string {
	f.T.Helper()
	if scopes == nil {
		scopes = identity.Scopes
	}
	token := identity.NewToken("hg_live_")
	_, err := f.CreateAPIKey(f.T.Context(), identity.APIKey{
		TenantID: tenant, InstanceID: instance, Name: "k", Scopes: scopes,
	}, identity.HashToken(token), identity.System)
	f.must(err)
	return token
}

// NewCustomer creates a customer of the first tenant.
func (f *SurfaceFixture) NewCustomer() string {
	f.T.Helper()
	c, err := f.CreateCustomer(f.T.Context(), identity.Customer{TenantID: f.TenantID, FirstName: "Steve"}, identity.System)
	f.must(err)
	return c.ID
}

// LinkAddress links an address to a customer of the first tenant, in one instance or in all.
func (f *SurfaceFixture) LinkAddress(customer, instance, channel, external string) identity.Identity {
	f.T.Helper()
	i, err := f.Link(f.T.Context(), identity.Identity{
		TenantID: f.TenantID, CustomerID: customer, InstanceID: instance, Channel: channel, ExternalID: external,
	}, identity.System)
	f.must(err)
	return i
}

// AddUnknownSender inserts an unknown sender of the first instance and returns its ID.
func (f *SurfaceFixture) AddUnknownSender(channel, external string) string {
	f.T.Helper()
	id := RandomID()
	f.DB.Exec(`
		insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, username, created_at,
			updated_at)
		values ($1, $2, $3, $4, $5, 'Steve', 'steve', '2026-01-02 03:04:05.000+00:00', '2026-01-02 03:04:05.000+00:00')`,
		id, f.TenantID, f.InstanceID, channel, external)
	return id
}

// AddConversation inserts a conversation of an identity in an instance and returns its ID.
func (f *SurfaceFixture) AddConversation(instance, identityID string) string {
	f.T.Helper()
	id := RandomID()
	f.DB.Exec(`
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, identity_id, created_at)
		values ($1, $2, $3, 'telegram', $4, false, $5, '2026-01-02 03:04:05.000+00:00')`,
		id, f.TenantID, instance, id, identityID)
	return id
}

// ConversationIdentity returns the identity of a conversation, or "" if it has none.
func (f *SurfaceFixture) ConversationIdentity(conversation string) string {
	f.T.Helper()
	return f.DB.QueryTexts(`select identity_id from conversations where id = $1`, conversation)[0]
}

// EventKinds returns the kinds of the audit events of the first tenant, newest first.
func (f *SurfaceFixture) EventKinds() (kinds []string) {
	f.T.Helper()
	es, err := f.AuditEvents(f.T.Context(), f.TenantID, identity.EventQuery{}, "", 1000)
	f.must(err)
	for _, e := range es {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// A SurfaceResponse is a response with the fields of its JSON object.
type SurfaceResponse struct {
	Response
	Fields map[string]any
}

// ID returns the field id.
func (r SurfaceResponse) ID() string {
	id, _ := r.Fields["id"].(string)
	return id
}

// Do sends a request with a secret, which is an agent key for the user API and otherwise an API
// key, and with an optional header given as name and value.
func (f *SurfaceFixture) Do(secret, method, path, body string, header ...string) SurfaceResponse {
	f.T.Helper()
	h := http.Header{}
	switch {
	case secret == "":
	case strings.HasPrefix(path, "/external/"):
		h.Set("Agent-Secret-Key", secret)
	default:
		h = BearerHeader(secret)
	}
	if len(header) > 0 {
		h.Set(header[0], header[1])
	}
	to := NewClient(f.url, "", time.Minute)
	defer to.HTTP.CloseIdleConnections()
	response, err := to.Do(f.T.Context(), method, path, h, body)
	f.must(err)
	got := SurfaceResponse{Response: response}
	_ = json.Unmarshal([]byte(got.Body), &got.Fields)
	return got
}

// Expect is Do, and checks the status and the given fields of the response.
func (f *SurfaceFixture) Expect(
	secret, method, path, body string, status int, fields map[string]any,
) SurfaceResponse {
	f.T.Helper()
	got := f.Do(secret, method, path, body)
	if got.Status != status {
		f.T.Errorf("%s %s %s: status %d %s, want %d", method, path, body, got.Status, got.Body, status)
	}
	for name, v := range fields {
		if fmt.Sprint(got.Fields[name]) != fmt.Sprint(v) {
			f.T.Errorf("%s %s %s: %s = %v, want %v in %s", method, path, body, name, got.Fields[name], v, got.Body)
		}
	}
	return got
}

// A LossyStore commits changes but returns an error, as if the connection was lost, for the next
// Failures calls that create something.
type LossyStore struct {
	*store.Store
	Failures atomic.Int32
}

func (s *LossyStore) lose(err error) error {
	if err == nil && s.Failures.Add(-1) >= 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CreateCustomer implements httpapi.CustomerStore.
func (s *LossyStore) CreateCustomer(
	ctx context.Context, c identity.Customer, by identity.Actor,
) (identity.Customer, error) {
	created, err := s.Store.CreateCustomer(ctx, c, by)
	return created, s.lose(err)
}

// CreateInstance implements httpapi.InstanceStore.
func (s *LossyStore) CreateInstance(
	ctx context.Context, i gateway.Instance, secrets gateway.InstanceSecrets, by identity.Actor,
) (gateway.Instance, error) {
	created, err := s.Store.CreateInstance(ctx, i, secrets, by)
	return created, s.lose(err)
}

// CreateAPIKey implements httpapi.KeyStore.
func (s *LossyStore) CreateAPIKey(
	ctx context.Context, k identity.APIKey, hash string, by identity.Actor,
) (identity.APIKey, error) {
	created, err := s.Store.CreateAPIKey(ctx, k, hash, by)
	return created, s.lose(err)
}

// RotateAPIKey implements httpapi.KeyStore.
func (s *LossyStore) RotateAPIKey(
	ctx context.Context, r identity.KeyRotation, by identity.Actor,
) (identity.APIKey, error) {
	created, err := s.Store.RotateAPIKey(ctx, r, by)
	return created, s.lose(err)
}
