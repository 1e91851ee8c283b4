package store

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"hydragate/httpapi"
	"hydragate/identity"
)

// A lossy database is lost in the moment in which it commits, as often as told: what was
// to be done is done, and nobody hears of it.
type lossy struct {
	db
	losses atomic.Int32
}

func (l *lossy) InTx(ctx context.Context, f func(db) error) error {
	err := l.db.InTx(ctx, f)
	if err == nil && l.losses.Add(-1) >= 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A call whose commit nobody heard of is answered 503. Made again, with the same key, it
// is that call: what it created is there once, is told of once, and what was to be shown
// once is shown and good.
func TestCallsLostInMidCommitAreOne(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		l := &lossy{db: w.db}
		w.db = l
		rotated, err := w.CreateAPIKey(t.Context(), identity.APIKey{TenantID: w.tenant, Name: "old", Scopes: identity.Scopes}, identity.HashToken("hg_live_old"), identity.System)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, path, body, table, event string }{
			{"Customer", "/v1/customers", `{"first_name":"Steve"}`, "customers", "customer.created"},
			{"CustomerWithEmail", "/v1/customers", `{"email":"steve@example.com"}`, "customers", "customer.created"},
			{"Instance", "/v1/instances", `{"name":"Support"}`, "instances", "instance.created"},
			{"Key", "/v1/keys", `{"name":"desk","scopes":["customers:read"]}`, "api_keys", "key.created"},
			{"RotatedKey", "/v1/keys/" + rotated.ID + "/rotate", `{}`, "api_keys", "key.rotated"},
		} {
			t.Run(c.name, func(t *testing.T) {
				count := func() int {
					n, _ := strconv.Atoi(queryText(t, w.Store, `select cast(count(*) as text) from `+c.table+` where tenant_id = $1`, w.tenant))
					return n
				}
				before := count()
				events := strings.Count(strings.Join(w.kinds(w.tenant), " "), c.event)
				l.losses.Store(2)
				for range 2 {
					if lost := w.askOnce(c.path, c.body, c.name); lost.status != http.StatusServiceUnavailable {
						t.Errorf("lost: %d %s", lost.status, lost.text)
					}
				}
				made := w.askOnce(c.path, c.body, c.name)
				if made.status != http.StatusCreated || made.header.Get("Idempotency-Replayed") != "" {
					t.Fatalf("made again: %d %s", made.status, made.text)
				}
				if again := w.askOnce(c.path, c.body, c.name); again.text != made.text || again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("replayed: %d %s", again.status, again.text)
				}
				if n, told := count()-before, strings.Count(strings.Join(w.kinds(w.tenant), " "), c.event)-events; n != 1 || told != 1 {
					t.Errorf("%d made, %d told of", n, told)
				}
				w.wantGood(t, made)
			})
		}
	})
}

// askOnce is ask with an API key and an Idempotency-Key.
func (w *town) askOnce(path, body, key string) said {
	w.t.Helper()
	return w.ask(w.key, "POST", path, body, "Idempotency-Key", key)
}

// wantGood checks that the secrets which an answer shows are those that hold.
func (w *town) wantGood(t *testing.T, made said) {
	t.Helper()
	if token, _ := made.body["key"].(string); token != "" {
		k, err := w.APIKey(t.Context(), identity.HashToken(token))
		if err != nil || k.ID != made.id() || !strings.HasSuffix(token, k.Hint) {
			t.Errorf("the key shown: %+v, %v", k, err)
		}
	}
	if key, _ := made.body["agent_secret_key"].(string); key != "" {
		i, err := w.Agent(t.Context(), identity.HashToken(key))
		if err != nil || i.ID != made.id() {
			t.Errorf("the agent's key shown: %+v, %v", i, err)
		}
		if secrets, err := w.SigningSecrets(t.Context(), w.tenant, made.id()); err != nil || len(secrets) != 1 || secrets[0] != made.body["webhook_secret"] {
			t.Errorf("the signing secret shown is not the one that signs, %v", err)
		}
	}
}

// The id of what a call creates outlives a failure and a crash, but not the day for
// which the call is one.
func TestWhatACallMakes(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		k := httpapi.IdempotencyKey{TenantID: identity.DefaultTenant, Principal: newID(), Key: "k", Fingerprint: "f"}
		first := remember(t, s, k, false).Makes
		if first == "" {
			t.Fatal("no id")
		}
		if err := s.Forget(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		other := k
		other.Fingerprint = "g"
		remember(t, s, other, true)
		if again := remember(t, s, k, false).Makes; again != first {
			t.Errorf("after a failure %s; want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-70)+` where principal = $1`, k.Principal)
		if again := remember(t, s, k, false).Makes; again != first {
			t.Errorf("after a crash %s; want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-answerLife-1)+` where principal = $1`, k.Principal)
		if next := remember(t, s, k, false).Makes; next == first || next == "" {
			t.Errorf("a day later %q; want a new id", next)
		}
	})
}
