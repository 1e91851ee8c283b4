package store

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// A lossyDB commits transactions but returns an error, as if the connection was lost, for the next
// failures transactions.
type lossyDB struct {
	sqldb.DB
	failures atomic.Int32
}

func (l *lossyDB) InTx(ctx context.Context, f func(sqldb.DB) error) error {
	err := l.DB.InTx(ctx, f)
	if err == nil && l.failures.Add(-1) >= 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// TestIdempotency_LostCommit repeats requests whose commit succeeded but was answered with 503. With
// the same idempotency key, the resource is created once, one event is recorded, and the returned
// secrets are valid.
func TestIdempotency_LostCommit(t *testing.T) {
	runAPITest(t, func(t *testing.T, f *apiFixture) {
		l := &lossyDB{DB: f.db}
		f.db = l
		rotated, err := f.CreateAPIKey(t.Context(), identity.APIKey{
			TenantID: f.tenant, Name: "old",
			Scopes: identity.Scopes,
		}, identity.HashToken("hg_live_old"), identity.System)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, path, body, table, event string }{
			{"customer", "/v1/customers", `{"first_name":"Steve"}`, "customers", "customer.created"},
			{"customer with e-mail", "/v1/customers", `{"email":"steve@example.com"}`, "customers", "customer.created"},
			{"instance", "/v1/instances", `{"name":"Support"}`, "instances", "instance.created"},
			{"API key", "/v1/keys", `{"name":"staff","scopes":["customers:read"]}`, "api_keys", "key.created"},
			{"rotated API key", "/v1/keys/" + rotated.ID + "/rotate", `{}`, "api_keys", "key.rotated"},
		} {
			t.Run(c.name, func(t *testing.T) {
				count := func() int {
					n, _ := strconv.Atoi(queryText(t, f.Store, `select cast(count(*) as text) from `+c.table+` where tenant_id = $1`,
						f.tenant))
					return n
				}
				key := strings.ReplaceAll(c.name, " ", "-")
				before := count()
				events := strings.Count(strings.Join(f.eventKinds(f.tenant), " "), c.event)
				l.failures.Store(2)
				for range 2 {
					if lost := f.doIdempotent(c.path, c.body, key); lost.status != http.StatusServiceUnavailable {
						t.Errorf("lost commit: %d %s, want 503", lost.status, lost.text)
					}
				}
				created := f.doIdempotent(c.path, c.body, key)
				if created.status != http.StatusCreated || created.header.Get("Idempotency-Replayed") != "" {
					t.Fatalf("repeated request: %d %s, want 201", created.status, created.text)
				}
				if again := f.doIdempotent(c.path, c.body, key); again.text != created.text ||
					again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("replayed request: %d %s, want the stored response", again.status, again.text)
				}
				if n, recorded := count()-before, strings.Count(strings.Join(f.eventKinds(f.tenant), " "),
					c.event)-events; n != 1 ||
					recorded != 1 {
					t.Errorf("%d rows created, %d events recorded, want 1 of each", n, recorded)
				}
				f.checkSecret(t, created)
			})
		}
	})
}

// doIdempotent sends a POST request with the API key and an Idempotency-Key.
func (f *apiFixture) doIdempotent(path, body, key string) apiResponse {
	f.t.Helper()
	return f.do(f.apiKey, "POST", path, body, "Idempotency-Key", key)
}

// checkSecret checks that the secrets in a response are valid.
func (f *apiFixture) checkSecret(t *testing.T, created apiResponse) {
	t.Helper()
	if token, _ := created.body["key"].(string); token != "" {
		k, err := f.APIKey(t.Context(), identity.HashToken(token))
		if err != nil || k.ID != created.id() || !strings.HasSuffix(token, k.Hint) {
			t.Errorf("APIKey() of the returned key = %+v, %v", k, err)
		}
	}
	if key, _ := created.body["agent_secret_key"].(string); key != "" {
		i, err := f.InstanceByAgentKey(t.Context(), identity.HashToken(key))
		if err != nil || i.ID != created.id() {
			t.Errorf("InstanceByAgentKey() of the returned key = %+v, %v", i, err)
		}
		if secrets, err := f.SigningSecrets(t.Context(), f.tenant, created.id()); err != nil || len(secrets) != 1 ||
			secrets[0] != created.body["webhook_secret"] {
			t.Errorf("the returned signing secret is not valid, %v", err)
		}
	}
}

// TestReserveIdempotencyKey_ResourceID tests that the ID of the resource stays the same after a failure
// and a crash, until the key expires after a day.
func TestReserveIdempotencyKey_ResourceID(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		k := gateway.IdempotencyKey{TenantID: identity.DefaultTenant, Principal: newID(), Key: "k", Fingerprint: "f"}
		first := reserveKey(t, s, k, false).ResourceID
		if first == "" {
			t.Fatal("ResourceID is empty")
		}
		if err := s.ReleaseIdempotencyKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		other := k
		other.Fingerprint = "g"
		reserveKey(t, s, other, true)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("ResourceID after a failure = %s, want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-70)+` where principal = $1`,
			k.Principal)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("ResourceID after a crash = %s, want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-responseTTL-1)+`
			where principal = $1`, k.Principal)
		if next := reserveKey(t, s, k, false).ResourceID; next == first || next == "" {
			t.Errorf("ResourceID after a day = %q, want a new one", next)
		}
	})
}
