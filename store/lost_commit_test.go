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

// A lossyDB database is lost in the moment in which it commits, as often as told: what was
// to be done is done, and nobody hears of it.
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

// A call whose commit nobody heard of is answered 503. Made again, with the same key, it
// is that call: what it created is there once, is told of once, and what was to be shown
// once is shown and good.
func TestIdempotency_LostCommit(t *testing.T) {
	runAPITest(t, func(t *testing.T, w *apiFixture) {
		l := &lossyDB{DB: w.db}
		w.db = l
		rotated, err := w.CreateAPIKey(t.Context(), identity.APIKey{TenantID: w.tenant, Name: "old",
			Scopes: identity.Scopes}, identity.HashToken("hg_live_old"), identity.System)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, path, body, table, event string }{
			{"customer", "/v1/customers", `{"first_name":"Steve"}`, "customers", "customer.created"},
			{"customer with e-mail", "/v1/customers", `{"email":"steve@example.com"}`, "customers", "customer.created"},
			{"instance", "/v1/instances", `{"name":"Support"}`, "instances", "instance.created"},
			{"API key", "/v1/keys", `{"name":"desk","scopes":["customers:read"]}`, "api_keys", "key.created"},
			{"rotated API key", "/v1/keys/" + rotated.ID + "/rotate", `{}`, "api_keys", "key.rotated"},
		} {
			t.Run(c.name, func(t *testing.T) {
				count := func() int {
					n, _ := strconv.Atoi(queryText(t, w.Store, `select cast(count(*) as text) from `+c.table+` where tenant_id = $1`,
						w.tenant))
					return n
				}
				before := count()
				events := strings.Count(strings.Join(w.eventKinds(w.tenant), " "), c.event)
				l.failures.Store(2)
				for range 2 {
					if lost := w.doIdempotent(c.path, c.body, c.name); lost.status != http.StatusServiceUnavailable {
						t.Errorf("lost: %d %s", lost.status, lost.text)
					}
				}
				made := w.doIdempotent(c.path, c.body, c.name)
				if made.status != http.StatusCreated || made.header.Get("Idempotency-Replayed") != "" {
					t.Fatalf("made again: %d %s", made.status, made.text)
				}
				if again := w.doIdempotent(c.path, c.body, c.name); again.text != made.text ||
					again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("replayed: %d %s", again.status, again.text)
				}
				if n, told := count()-before, strings.Count(strings.Join(w.eventKinds(w.tenant), " "), c.event)-events; n != 1 ||
					told != 1 {
					t.Errorf("%d made, %d told of", n, told)
				}
				w.checkSecret(t, made)
			})
		}
	})
}

// doIdempotent is ask with an API key and an Idempotency-Key.
func (w *apiFixture) doIdempotent(path, body, key string) apiResponse {
	w.t.Helper()
	return w.do(w.apiKey, "POST", path, body, "Idempotency-Key", key)
}

// checkSecret checks that the secrets which an answer shows are those that hold.
func (w *apiFixture) checkSecret(t *testing.T, made apiResponse) {
	t.Helper()
	if token, _ := made.body["key"].(string); token != "" {
		k, err := w.APIKey(t.Context(), identity.HashToken(token))
		if err != nil || k.ID != made.id() || !strings.HasSuffix(token, k.Hint) {
			t.Errorf("the key shown: %+v, %v", k, err)
		}
	}
	if key, _ := made.body["agent_secret_key"].(string); key != "" {
		i, err := w.InstanceByAgentKey(t.Context(), identity.HashToken(key))
		if err != nil || i.ID != made.id() {
			t.Errorf("the agent's key shown: %+v, %v", i, err)
		}
		if secrets, err := w.SigningSecrets(t.Context(), w.tenant, made.id()); err != nil || len(secrets) != 1 ||
			secrets[0] != made.body["webhook_secret"] {
			t.Errorf("the signing secret shown is not the one that signs, %v", err)
		}
	}
}

// The id of what a call creates outlives a failure and a crash, but not the day for
// which the call is one.
func TestReserveIdempotencyKey_ResourceID(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		k := gateway.IdempotencyKey{TenantID: identity.DefaultTenant, Principal: newID(), Key: "k", Fingerprint: "f"}
		first := reserveKey(t, s, k, false).ResourceID
		if first == "" {
			t.Fatal("no id")
		}
		if err := s.ReleaseIdempotencyKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		other := k
		other.Fingerprint = "g"
		reserveKey(t, s, other, true)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("after a failure %s; want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-70)+` where principal = $1`,
			k.Principal)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("after a crash %s; want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-responseTTL-1)+`
			where principal = $1`, k.Principal)
		if next := reserveKey(t, s, k, false).ResourceID; next == first || next == "" {
			t.Errorf("a day later %q; want a new id", next)
		}
	})
}
