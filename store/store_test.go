package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

func TestOpen(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrated(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOpen_SQLiteFilesPrivate tests that only the owner can read the files of an SQLite database.
func TestOpen_SQLiteFilesPrivate(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, filepath.Join(dir, "hydragate.db"))
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

// forEachEngine runs test on each engine. open returns a store on a new, empty database. The Postgres
// server is that at HYDRAGATE_TEST_POSTGRES; make test starts one.
func forEachEngine(t *testing.T, test func(t *testing.T, open func(*testing.T) *Store)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *Store { return mustOpen(t, filepath.Join(t.TempDir(), "hydragate.db")) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *Store { return mustOpen(t, freshPostgres(t)) })
	})
}

func mustOpen(t *testing.T, dsn string) *Store {
	t.Helper()
	keys, err := keyring.Parse(keyring.GenerateKey("test"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), dsn, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// freshPostgres returns the URL of a new, empty database.
func freshPostgres(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_POSTGRES is not set: run make test, or set it to the postgres:// URL of a superuser")
	}
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(ctx) }()
	name := "t_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.Exec(ctx, "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = admin.Close(ctx) }()
		if _, err := admin.Exec(ctx, fmt.Sprintf("drop database %s with (force)", name)); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// tenantFixture is a store with a new tenant that has one instance.
type tenantFixture struct {
	*Store
	t                *testing.T
	tenant, instance string
	serial           int
}

func newTenantFixture(t *testing.T, s *Store) *tenantFixture {
	f := &tenantFixture{Store: s, t: t, tenant: newTenant(t, s)}
	f.instance = newInstance(t, s, f.tenant).ID
	return f
}

// runTenantTests runs the tests on each engine, each with its own tenant.
func runTenantTests(t *testing.T, tests map[string]func(*testing.T, *tenantFixture)) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, newTenantFixture(t, s)) })
		}
	})
}

// createCustomer creates a customer with the given number of identities.
func (f *tenantFixture) createCustomer(email string, identities int) (id string, linked []string) {
	f.t.Helper()
	c, err := f.CreateCustomer(f.t.Context(), identity.Customer{
		TenantID: f.tenant, Email: email, FirstName: "Steve",
		Metadata: []byte(`{"a":1}`),
	}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	for range identities {
		linked = append(linked, f.linkIdentity(c.ID))
	}
	return c.ID, linked
}

func (f *tenantFixture) linkIdentity(customer string) string {
	f.t.Helper()
	f.serial++
	i, err := f.Link(f.t.Context(), identity.Identity{
		TenantID: f.tenant, CustomerID: customer, Channel: "telegram",
		ExternalID: fmt.Sprint(f.serial),
	}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return i.ID
}

const tenant = identity.DefaultTenant

// fixture is a store with one instance of the default tenant.
type fixture struct {
	*Store
	t        *testing.T
	instance string
}

func newFixture(t *testing.T, s *Store) fixture {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{
		TenantID: tenant, Name: "acme",
		UnknownSenders: gateway.ForwardUnknown,
	},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + newID(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		identity.System)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{s, t, i.ID}
}

// arrival returns a message from sender.
func (h fixture) arrival(sender, key, text string) gateway.IncomingMessage {
	return gateway.IncomingMessage{
		ID: newID(), TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram,
		ConversationID: gateway.ConversationID(h.instance, adapters.Telegram, sender),
		Message: adapters.Message{
			Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender, Name: "Steve"},
			Chat: adapters.Chat{ID: sender},
		},
	}
}

func (h fixture) insertMessages(messages ...gateway.IncomingMessage) int {
	h.t.Helper()
	n, err := h.InsertMessages(h.t.Context(), messages, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func (h fixture) lease(kind gateway.QueueKind, holder string) []gateway.Lease {
	h.t.Helper()
	ls, err := h.Lease(h.t.Context(), kind, holder, 10)
	if err != nil {
		h.t.Fatal(err)
	}
	return ls
}

func (h fixture) inbound(l gateway.Lease) []gateway.StoredMessage {
	h.t.Helper()
	pending, err := h.PendingMessages(h.t.Context(), l)
	if err != nil {
		h.t.Fatal(err)
	}
	return pending
}

func (h fixture) apply(s gateway.Commit) {
	h.t.Helper()
	if err := h.Apply(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
}

// createCustomerIdentity creates a customer with an unverified identity.
func (h fixture) createCustomerIdentity(external string) (customer, id string) {
	h.t.Helper()
	c, err := h.CreateCustomer(h.t.Context(), identity.Customer{TenantID: tenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	i, err := h.Link(h.t.Context(), identity.Identity{
		TenantID: tenant, CustomerID: c.ID, InstanceID: h.instance,
		Channel: "telegram", ExternalID: external,
	}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID, i.ID
}

func forEachEngineFixture(t *testing.T, test func(t *testing.T, h fixture)) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) { test(t, newFixture(t, open(t))) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// arrival returns a message with marked data; see tracedCustomer.
func (f *tenantFixture) arrival(
	instance string, channel adapters.Channel, sender, place string, group bool, text string,
) gateway.IncomingMessage {
	return gateway.IncomingMessage{
		ID: newID(), TenantID: f.tenant, InstanceID: instance, Channel: channel,
		ConversationID: gateway.ConversationID(instance, channel, place),
		Message: adapters.Message{
			Key: newID(), Kind: adapters.Text, Text: text,
			Sender: adapters.Sender{ID: sender, Name: "Canaryname", Username: "canaryuser"},
			Chat:   adapters.Chat{ID: place, Group: group},
			Media:  []adapters.Attachment{{Kind: "image", Ref: "canaryref", Name: "canary.jpg"}},
		},
	}
}

func (f *tenantFixture) insertMessages(messages ...gateway.IncomingMessage) {
	f.t.Helper()
	if _, err := f.InsertMessages(f.t.Context(), messages, nil); err != nil {
		f.t.Fatal(err)
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
