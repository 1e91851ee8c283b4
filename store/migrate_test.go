package store

import (
	"path/filepath"
	"testing"
	"time"

	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

// TestMigrate_SurfacesKeepsIdentities migrates a database of version 1 with an identity and a
// conversation. On SQLite, a migration recreates the table identities.
func TestMigrate_SurfacesKeepsIdentities(t *testing.T) {
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "hydragate.db") },
		"postgres": storetest.NewEmptyPostgres,
	} {
		t.Run(name, func(t *testing.T) {
			url := dsn(t)
			must(t, sqldb.MigrateTo(t.Context(), url, 1))
			ids := insertVersion1Rows(t, url)
			s, err := Open(t.Context(), url, mustRing(t, keyring.GenerateKey("test")))
			must(t, err)
			defer s.Close()
			c, err := s.ContactIdentity(t.Context(), identity.DefaultTenant, ids["identity"])
			if err != nil || c.CustomerID != ids["customer"] || c.InstanceID != ids["instance"] || !c.IsVerified() ||
				c.RoleOverride != "owner" || c.AvatarURL != "" {
				t.Errorf("ContactIdentity() = %+v, %v", c, err)
			}
			if with := queryText(t, s, `select identity_id from conversations where id = $1`,
				ids["conversation"]); with != ids["identity"] {
				t.Errorf("identity of the conversation = %q, want %q", with, ids["identity"])
			}
			if _, err := s.db.Exec(t.Context(), `delete from identities where id = $1`,
				ids["identity"]); !s.dialect.IsForeignKeyViolation(err) {
				t.Errorf("delete identity: %v, want a violation of a foreign key", err)
			}
			if err := s.DeleteInstance(t.Context(), identity.DefaultTenant, ids["instance"], identity.System); err != nil {
				t.Error(err)
			}
			if _, err := s.ContactIdentity(t.Context(), identity.DefaultTenant, ids["identity"]); err == nil {
				t.Error("the identity was not deleted with its instance")
			}
		})
	}
}

// insertVersion1Rows inserts rows into a database of version 1 and returns their IDs.
func insertVersion1Rows(t *testing.T, url string) map[string]string {
	t.Helper()
	d, ingest, err := sqldb.Open(t.Context(), url)
	must(t, err)
	defer d.Close()
	if ingest != d {
		defer ingest.Close()
	}
	ids := map[string]string{"instance": newID(), "customer": newID(), "identity": newID(), "conversation": newID()}
	const tenant = identity.DefaultTenant
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	err = d.Batch(t.Context(), []sqldb.Statement{
		{
			Query: `insert into instances (id, tenant_id, name, agent_secret_hash, webhook_secret, created_at, updated_at)
			values ($1, $2, 'bot', 'x', 'x', $3, $3)`,
			Args: []any{ids["instance"], tenant, at},
		},
		{
			Query: `insert into customers (id, tenant_id, created_at, updated_at) values ($1, $2, $3, $3)`,
			Args:  []any{ids["customer"], tenant, at},
		},
		{
			Query: `
			insert into identities (id, tenant_id, instance_id, customer_id, channel, external_id, role_override, verified_at,
				created_at, updated_at)
			values ($1, $2, $3, $4, 'telegram', '12345', 'owner', $5, $5, $5)`,
			Args: []any{ids["identity"], tenant, ids["instance"], ids["customer"], at},
		},
		{
			Query: `
			insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, identity_id, created_at)
			values ($1, $2, $3, 'telegram', '12345', false, $4, $5)`,
			Args: []any{ids["conversation"], tenant, ids["instance"], ids["identity"], at},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
