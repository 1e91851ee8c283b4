package api

import (
	"net/http"
	"strings"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestIdempotency_LostCommit repeats requests whose commit succeeded but was answered with 503. With
// the same idempotency key, the resource is created once, one event is recorded, and the returned
// secrets are valid.
func TestIdempotency_LostCommit(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		l := &harness.LossyStore{Store: f.Store}
		f.API.Stores.Customers, f.API.Stores.Instances, f.API.Stores.Keys = l, l, l
		rotated, err := f.CreateAPIKey(t.Context(), identity.APIKey{
			TenantID: f.TenantID, Name: "old",
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
					return f.DB.QueryInt(`select count(*) from `+c.table+` where tenant_id = $1`, f.TenantID)
				}
				key := strings.ReplaceAll(c.name, " ", "-")
				before := count()
				events := strings.Count(strings.Join(f.EventKinds(), " "), c.event)
				l.Failures.Store(2)
				for range 2 {
					lost := f.Do(f.Token, "POST", c.path, c.body, "Idempotency-Key", key)
					if lost.Status != http.StatusServiceUnavailable {
						t.Errorf("lost commit: %d %s, want 503", lost.Status, lost.Body)
					}
				}
				created := f.Do(f.Token, "POST", c.path, c.body, "Idempotency-Key", key)
				if created.Status != http.StatusCreated || created.Header.Get("Idempotency-Replayed") != "" {
					t.Fatalf("repeated request: %d %s, want 201", created.Status, created.Body)
				}
				if again := f.Do(f.Token, "POST", c.path, c.body, "Idempotency-Key", key); again.Body != created.Body ||
					again.Header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("replayed request: %d %s, want the stored response", again.Status, again.Body)
				}
				if n, recorded := count()-before, strings.Count(strings.Join(f.EventKinds(), " "),
					c.event)-events; n != 1 ||
					recorded != 1 {
					t.Errorf("%d rows created, %d events recorded, want 1 of each", n, recorded)
				}
				checkSecret(t, f, created)
			})
		}
	})
}

// checkSecret checks that the secrets in a response are valid.
func checkSecret(t *testing.T, f *harness.SurfaceFixture, created harness.SurfaceResponse) {
	t.Helper()
	if token, _ := created.Fields["key"].(string); token != "" {
		hash := identity.HashToken(token)
		found, err := f.APIKeys(t.Context(), []string{hash})
		if k := found[hash]; err != nil || k.ID != created.ID() || !strings.HasSuffix(token, k.Hint) {
			t.Errorf("APIKeys() of the returned key = %+v, %v", found, err)
		}
	}
	if key, _ := created.Fields["agent_secret_key"].(string); key != "" {
		hash := identity.HashToken(key)
		found, err := f.InstancesByAgentKeys(t.Context(), []string{hash})
		if err != nil || found[hash].ID != created.ID() {
			t.Errorf("InstancesByAgentKeys() of the returned key = %+v, %v", found, err)
		}
		if secrets, err := f.SigningSecrets(t.Context(), f.TenantID, created.ID()); err != nil || len(secrets) != 1 ||
			secrets[0] != created.Fields["webhook_secret"] {
			t.Errorf("the returned signing secret is not valid, %v", err)
		}
	}
}
