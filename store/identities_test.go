package store

import (
	"testing"

	"hydragate/identity"
	"hydragate/identity/identitytest"
)

func TestIdentities(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) { identitytest.Run(t, newSuite(s)) })
}

// newSuite returns the harness of the suite for a store.
func newSuite(s *Store) identitytest.Harness {
	return identitytest.Harness{
		Store:            s,
		NewTenant:        func(t *testing.T) string { return newTenant(t, s) },
		NewInstance:      func(t *testing.T, tenant string) string { return newInstance(t, s, tenant).ID },
		AddUnknownSender: func(t *testing.T, i identity.Identity) identity.Identity { return newUnknown(t, s, i) },
		NewConversation: func(t *testing.T, tenant, instance, id string) string {
			return newConversation(t, s, tenant, instance, id)
		},
		ConversationIdentity: func(t *testing.T, tenant, conversation string) string {
			t.Helper()
			return queryText(t, s, `select identity_id from conversations where tenant_id = $1 and id = $2`, tenant,
				conversation)
		},
		IssueCode: func(t *testing.T, tenant, id string) {
			t.Helper()
			mustExec(t, s, `
				update identities set claim_gen = claim_gen + 1, claim_expires_at = `+s.dialect.NowPlus(900)+`,
					claim_used_msg = null, claim_revoked_at = null
				where tenant_id = $1 and id = $2`, tenant, id)
		},
		HasLiveCode: func(t *testing.T, tenant, id string) bool {
			t.Helper()
			return queryText(t, s, `
				select cast(count(*) as text) from identities
				where tenant_id = $1 and id = $2 and claim_expires_at > `+s.dialect.Now+` and claim_used_msg is null
					and claim_revoked_at is null`, tenant, id) == "1"
		},
		Events: func(t *testing.T, tenant string) []identity.Event { return auditLog(t, s, tenant) },
	}
}

// TestSchema_ForeignKeysSeparateTenants inserts rows that refer to rows of another tenant with SQL
// statements. The database must reject them.
func TestSchema_ForeignKeysSeparateTenants(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		own, foreign := newTenant(t, s), newTenant(t, s)
		instance, ownInstance := newInstance(t, s, foreign).ID, newInstance(t, s, own).ID
		customer, err := s.CreateCustomer(t.Context(), identity.Customer{TenantID: foreign}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		i, err := s.Link(t.Context(), identity.Identity{
			TenantID: foreign, CustomerID: customer.ID, Channel: "sms",
			ExternalID: "+61400111222",
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			query string
			args  []any
		}{
			"identity of a foreign customer": {
				`insert into identities (id, tenant_id, customer_id, channel, external_id,
				created_at,
				updated_at) values ($1, $2, $3, 'sms', '+1', $4, $4)`,
				[]any{newID(), own, customer.ID, s.now()},
			},
			"identity in a foreign instance": {
				`insert into identities (id, tenant_id, instance_id, channel, external_id,
				created_at,
				updated_at) values ($1, $2, $3, 'sms', '+1', $4, $4)`,
				[]any{newID(), own, instance, s.now()},
			},
			"endpoint of a foreign instance": {
				`insert into endpoints (id, tenant_id, instance_id, channel, mode, status,
				credentials,
				created_at, updated_at) values ($1, $2, $3, 'sms', 'webhook', 'active', '', $4, $4)`,
				[]any{newID(), own, instance, s.now()},
			},
			"conversation of a foreign instance": {
				`insert into conversations (id, tenant_id, instance_id, channel, place_id,
				is_group,
				created_at) values ($1, $2, $3, 'sms', '+1', false, $4)`,
				[]any{newID(), own, instance, s.now()},
			},
			"conversation with a foreign identity": {
				`insert into conversations (id, tenant_id, instance_id, channel, place_id,
				is_group, identity_id, created_at) values ($1, $2, $3, 'sms', '+1', false, $4, $5)`,
				[]any{newID(), own, ownInstance, i.ID, s.now()},
			},
			"API key for a foreign instance": {
				`insert into api_keys (id, tenant_id, name, hint, hash, scopes, instance_id,
				created_at)
				values ($1, $2, 'k', '', $3, '', $4, $5)`,
				[]any{newID(), own, newID(), instance, s.now()},
			},
			"foreign identity moved": {`update identities set tenant_id = $1 where id = $2`, []any{own, i.ID}},
		} {
			if _, err := s.db.Exec(t.Context(), c.query, c.args...); !s.dialect.IsForeignKeyViolation(err) {
				t.Errorf("%s: %v, want a violation of a foreign key", name, err)
			}
		}
	})
}

// TestLink_KeepsOptOut tests that an opt-out from one instance holds for all instances after a link,
// and that a sender who can be reached through one instance is not blocked.
func TestLink_KeepsOptOut(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		customer, err := s.CreateCustomer(t.Context(), identity.Customer{TenantID: tenant}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		var us []identity.Identity
		for range 3 {
			us = append(us, newUnknown(t, s, identity.Identity{
				TenantID: tenant, InstanceID: newInstance(t, s, tenant).ID,
				Channel: "sms", ExternalID: "+61400111222",
			}))
		}
		mustExec(t, s, `update identities set blocked_at = $2 where id = $1`, us[0].ID, s.now())
		mustExec(t, s, `update identities set opted_out_at = $2 where id = $1`, us[1].ID, s.now())
		got, err := s.Link(t.Context(), identity.Identity{
			TenantID: tenant, CustomerID: customer.ID, Channel: "sms",
			ExternalID: "+61400111222",
		}, identity.System)
		if err != nil || got.OptedOutAt.IsZero() || !got.BlockedAt.IsZero() {
			t.Errorf("Link() = %+v, %v, want opted out and not blocked", got, err)
		}
		back, err := s.Identity(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer.ID, IdentityID: got.ID})
		if err != nil || !back.OptedOutAt.Equal(got.OptedOutAt) || !back.BlockedAt.IsZero() {
			t.Errorf("Identity() = %+v, %v, want opted out and not blocked", back, err)
		}
	})
}
