package store

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

func TestOpen(t *testing.T) {
	for engine, newDatabase := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "hydragate.db") },
		"postgres": storetest.NewEmptyPostgres,
	} {
		t.Run(engine, func(t *testing.T) {
			s, err := Open(t.Context(), newDatabase(t), mustRing(t, keyring.GenerateKey("test")))
			must(t, err)
			defer s.Close()
			must(t, s.Ping(t.Context()))
			must(t, s.Migrated(t.Context()))
		})
	}
}

// TestOpen_SQLiteFilesPrivate tests that only the owner can read the files of an SQLite database.
func TestOpen_SQLiteFilesPrivate(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), filepath.Join(dir, "hydragate.db"), mustRing(t, keyring.GenerateKey("test")))
	must(t, err)
	defer s.Close()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("files = %v, %v, want the database and its log", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v, want 0600", f.Name(), info.Mode(), err)
		}
	}
}

// forEachEngine runs test on each engine with a store on a new database.
func forEachEngine(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, newStore(t, engine))
		})
	}
}

// databases are the Postgres databases of the tests.
var databases storetest.Pool

func TestMain(m *testing.M) {
	code := m.Run()
	if err := databases.Close(); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// newStore returns a store on an empty database of an engine.
func newStore(t *testing.T, engine string) *Store {
	t.Helper()
	if engine == "sqlite" {
		return mustOpen(t, storetest.NewSQLite(t))
	}
	db, ingest := databases.Open(t)
	s, err := newOpened(t.Context(), db, ingest, mustRing(t, keyring.GenerateKey("test")))
	must(t, err)
	return s
}

// mustOpen opens a database that has all migrations.
func mustOpen(t *testing.T, dsn string) *Store {
	t.Helper()
	db, ingest, err := sqldb.Open(context.Background(), dsn)
	must(t, err)
	s, err := newOpened(t.Context(), db, ingest, mustRing(t, keyring.GenerateKey("test")))
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// mustRing returns the ring of keys, each "id:base64".
func mustRing(t *testing.T, keys ...string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Parse(strings.Join(keys, ","))
	must(t, err)
	return r
}

// A fixture is a store with a tenant that has one instance.
type fixture struct {
	*Store
	t                *testing.T
	tenant, instance string
}

// newFixture creates a tenant and its instance.
func newFixture(t *testing.T, s *Store) *fixture {
	t.Helper()
	tenant := newTenant(t, s)
	return &fixture{s, t, tenant, newInstance(t, s, tenant).ID}
}

// forEachFixture runs test on each engine with a fixture on a new database.
func forEachFixture(t *testing.T, test func(t *testing.T, f *fixture)) {
	forEachEngine(t, func(t *testing.T, s *Store) { test(t, newFixture(t, s)) })
}

// in returns the fixture for a subtest.
func (f *fixture) in(t *testing.T) *fixture { return &fixture{f.Store, t, f.tenant, f.instance} }

// createCustomer creates a customer without identities.
func (f *fixture) createCustomer() string {
	f.t.Helper()
	id, _ := f.createCustomerWith("", 0)
	return id
}

// createCustomerWith creates a customer with an e-mail address and the given number of identities.
func (f *fixture) createCustomerWith(email string, identities int) (id string, linked []string) {
	f.t.Helper()
	c, err := f.CreateCustomer(f.t.Context(), identity.Customer{
		TenantID: f.tenant, Email: email, FirstName: "Steve", Metadata: []byte(`{"a":1}`),
	}, identity.System)
	must(f.t, err)
	for range identities {
		linked = append(linked, f.link(c.ID, "", "telegram", newID()).ID)
	}
	return c.ID, linked
}

// createCustomerIdentity creates a customer with an unverified Telegram identity of the instance.
func (f *fixture) createCustomerIdentity(external string) (customer, id string) {
	f.t.Helper()
	customer = f.createCustomer()
	return customer, f.link(customer, f.instance, "telegram", external).ID
}

// link links an address to a customer, in one instance or in all.
func (f *fixture) link(customer, instance, channel, external string) identity.Identity {
	f.t.Helper()
	i, err := f.Link(f.t.Context(), identity.Identity{
		TenantID: f.tenant, CustomerID: customer, InstanceID: instance, Channel: channel, ExternalID: external,
	}, identity.System)
	must(f.t, err)
	return i
}

// arrival returns a Telegram message from sender.
func (f *fixture) arrival(sender, key, text string) gateway.IncomingMessage {
	return gateway.IncomingMessage{
		ID: newID(), TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram,
		ConversationID: gateway.ConversationID(f.instance, adapters.Telegram, sender),
		Message: adapters.Message{
			Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender, Name: "Steve"},
			Chat: adapters.Chat{ID: sender},
		},
	}
}

func (f *fixture) insertMessages(messages ...gateway.IncomingMessage) int {
	f.t.Helper()
	n, err := f.InsertMessages(f.t.Context(), messages, nil)
	must(f.t, err)
	return n
}

func (f *fixture) lease(kind gateway.QueueKind, holder string) []gateway.Lease {
	f.t.Helper()
	ls, err := f.Lease(f.t.Context(), kind, holder, 10)
	must(f.t, err)
	return ls
}

func (f *fixture) pending(l gateway.Lease) []gateway.StoredMessage {
	f.t.Helper()
	pending, err := f.PendingMessages(f.t.Context(), l)
	must(f.t, err)
	return pending
}

func (f *fixture) apply(c gateway.Commit) {
	f.t.Helper()
	must(f.t, f.Apply(f.t.Context(), c))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTenant(t *testing.T, s *Store) string {
	t.Helper()
	id := newID()
	mustExec(t, s, `insert into tenants (id, name) values ($1, $2)`, id, "tenant "+id)
	return id
}

func newInstance(t *testing.T, s *Store, tenant string) gateway.Instance {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: tenant, Name: "bot"},
		gateway.InstanceSecrets{AgentSecretKey: identity.NewToken("hg_agent_"), WebhookSecret: identity.NewToken("whsec_")},
		identity.System)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// newUnknown inserts the identity of an unknown sender.
func newUnknown(t *testing.T, s *Store, i identity.Identity) identity.Identity {
	t.Helper()
	rs, err := s.db.Query(t.Context(), `
		insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, username, created_at,
			updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $8) returning `+identityColumns,
		newID(), i.TenantID, i.InstanceID, i.Channel, i.ExternalID, i.DisplayName, i.Username, s.now())
	created, err := sqldb.ScanOne(rs, err, scanIdentity)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// newConversation creates a conversation and sets its identity, as a worker does. It retries if the
// identity is deleted concurrently.
func newConversation(t *testing.T, s *Store, tenant, instance, identityID string) string {
	t.Helper()
	id := newID()
	mustExec(t, s, `
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		values ($1, $2, $3, 'telegram', $4, false, $5)`, id, tenant, instance, id, s.now())
	for {
		_, err := s.db.Exec(t.Context(), `
			update conversations set identity_id = (select id from identities where tenant_id = $1 and id = $3)
			where tenant_id = $1 and id = $2`, tenant, id, identityID)
		if err == nil {
			return id
		}
		if !s.dialect.IsForeignKeyViolation(err) {
			t.Errorf("set identity of conversation: %v", err)
			return id
		}
	}
}

// auditLog returns the events of a tenant, oldest first.
func auditLog(t *testing.T, s *Store, tenant string) []identity.Event {
	t.Helper()
	rs, err := s.db.Query(t.Context(), `
		select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at
		from audit_events where tenant_id = $1 order by seq`, tenant)
	es, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (e identity.Event, err error) {
		var detail string
		if err := sc(sqldb.Text(&e.ID), sqldb.Text(&e.TenantID), &e.Kind, &e.Actor, sqldb.Text(&e.CustomerID),
			sqldb.Text(&e.IdentityID), sqldb.Text(&e.InstanceID), sqldb.Text(&e.MessageID), &detail,
			sqldb.Time(&e.At)); err != nil {
			return e, err
		}
		return e, json.Unmarshal([]byte(detail), &e.Detail)
	})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func mustExec(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	if _, err := s.db.Exec(t.Context(), query, args...); err != nil {
		t.Errorf("%s: %v", query, err)
	}
}

// queryText returns the only column of the only row of a query as text.
func queryText(t *testing.T, s *Store, query string, args ...any) string {
	t.Helper()
	rs, err := s.db.Query(t.Context(), query, args...)
	v, err := sqldb.ScanOne(rs, err, sqldb.ScanText)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// unknownID is a valid ID of nothing.
const unknownID = "00000000-0000-7000-8000-0000000000ff"
