package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestCreateKey_Role tests that a key with a role has the scopes that a member of staff with that role
// has, and that a caller cannot create a key with a role that exceeds its own scopes.
func TestCreateKey_Role(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for _, role := range identity.Roles {
			got := f.Expect(f.Token, "POST", "/v1/keys", `{"name":"x","role":"`+role+`"}`, 201, nil)
			if want := identity.RoleScopes(role); fmt.Sprint(got.Fields["scopes"]) != fmt.Sprint(want) {
				t.Errorf("scopes of %s = %v, want %v", role, got.Fields["scopes"], want)
			}
			got = f.Expect(f.Token, "POST", "/v1/keys",
				`{"name":"x","role":"`+role+`","instance_id":"`+f.InstanceID+`"}`, 201, nil)
			want := slices.DeleteFunc(identity.RoleScopes(role), func(s string) bool { return s == "channels:write" })
			if fmt.Sprint(got.Fields["scopes"]) != fmt.Sprint(want) {
				t.Errorf("scopes of %s for one instance = %v, want %v", role, got.Fields["scopes"], want)
			}
		}
		viewer := f.NewKey(f.TenantID, "", append(identity.RoleScopes("viewer"), "keys:write")...)
		f.Expect(viewer, "POST", "/v1/keys", `{"name":"x","role":"viewer"}`, 201, nil)
		f.Expect(viewer, "POST", "/v1/keys", `{"name":"x","role":"staff"}`, 403, nil)
		f.Expect(viewer, "POST", "/v1/keys", `{"name":"x","role":"admin"}`, 403, nil)
		for _, body := range []string{
			`{"name":"x"}`, `{"name":"x","role":null}`, `{"name":"x","role":"root"}`, `{"name":"x","role":""}`,
			`{"name":"x","role":"Admin"}`, `{"name":"x","role":"viewer","scopes":["audit:read"]}`,
			`{"name":"x","role":"viewer","scopes":[]}`, `{"name":"x","scopes":[]}`, `{"name":"x","role":["viewer"]}`,
		} {
			f.Expect(f.Token, "POST", "/v1/keys", body, 422, nil)
		}
	})
}

// TestKey_RateLimit tests that a key is limited to its own rate, that its copies are too, and that it
// cannot create keys with a higher one.
func TestKey_RateLimit(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		for _, value := range []string{"0", "-1", "10001", `"x"`, "1.5", "true"} {
			f.Expect(f.Token, "POST", "/v1/keys", `{"name":"x","role":"viewer","rate_limit_per_second":`+value+`}`, 422, nil)
		}
		f.Expect(f.Token, "POST", "/v1/keys", `{"name":"x","role":"viewer"}`, 201,
			map[string]any{"rate_limit_per_second": 500})
		f.Expect(f.Token, "POST", "/v1/keys", `{"name":"x","role":"viewer","rate_limit_per_second":10000}`, 201,
			map[string]any{"rate_limit_per_second": 10000})
		slow := f.Expect(f.Token, "POST", "/v1/keys", `{"name":"slow","role":"admin","rate_limit_per_second":1}`, 201,
			map[string]any{"rate_limit_per_second": 1})
		rotated := f.Expect(f.Token, "POST", "/v1/keys/"+slow.ID()+"/rotate", "", 201,
			map[string]any{"rate_limit_per_second": 1})
		listed := map[string]any{}
		for _, item := range f.Expect(f.Token, "GET", "/v1/keys", "", 200, nil).Fields["items"].([]any) {
			key := item.(map[string]any)
			listed[key["id"].(string)] = key["rate_limit_per_second"]
		}
		if fmt.Sprint(listed[slow.ID()], listed[rotated.ID()]) != "1 1" {
			t.Errorf("listed limits of the keys = %v and %v, want 1", listed[slow.ID()], listed[rotated.ID()])
		}
		for _, key := range []harness.SurfaceResponse{slow, rotated} {
			token := key.Fields["key"].(string)
			limited := 0
			for range 6 {
				got := f.Do(token, "GET", "/v1/customers?limit=1", "")
				if got.Status == 429 {
					limited++
				}
				if got.Status == 429 && got.Header.Get("Retry-After") != "1" {
					t.Errorf("Retry-After = %q, want 1", got.Header.Get("Retry-After"))
				}
			}
			if limited == 0 {
				t.Error("6 requests with a key that is limited to 1 a second, none answered with 429")
			}
		}
		for range 20 {
			f.Expect(f.Token, "GET", "/v1/customers?limit=1", "", 200, nil)
		}
		admin := f.Expect(f.Token, "POST", "/v1/keys", `{"name":"x","role":"admin","rate_limit_per_second":100}`, 201, nil)
		token := admin.Fields["key"].(string)
		f.Expect(token, "POST", "/v1/keys", `{"name":"x","role":"viewer","rate_limit_per_second":101}`, 403,
			map[string]any{"detail": "A key cannot create keys with a higher rate limit"})
		f.Expect(token, "POST", "/v1/keys", `{"name":"x","role":"viewer"}`, 201, map[string]any{"rate_limit_per_second": 100})
		f.Expect(token, "POST", "/v1/keys", `{"name":"x","role":"viewer","rate_limit_per_second":50}`, 201,
			map[string]any{"rate_limit_per_second": 50})
	})
}

// TestAuditLog_ActorNames tests that events name the key or the member of staff that caused them, also
// after the key is gone, and never those of another tenant.
func TestAuditLog_ActorNames(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		created := f.Expect(f.Token, "POST", "/v1/keys",
			`{"name":"=front desk","role":"admin","instance_id":"`+f.OtherInstanceID+`"}`, 201, nil)
		actors := map[string]any{"key:" + created.ID(): "=front desk", "user:steve": "Steve Example", "user:nobody": nil}
		f.Expect(created.Fields["key"].(string), "POST", "/v1/customers", `{"first_name":"Ann"}`, 201, nil)
		for actor, name := range map[identity.Actor]string{"user:steve": "Steve", "user:ann": "Ann"} {
			if err := f.SaveActorName(t.Context(), f.TenantID, actor, name); err != nil {
				t.Fatal(err)
			}
		}
		for tenant, name := range map[string]string{f.TenantID: "Steve Example", f.OtherTenantID: "foreign"} {
			if err := f.SaveActorName(t.Context(), tenant, "user:steve", name); err != nil {
				t.Fatal(err)
			}
		}
		for actor := range actors {
			if err := f.Audit(t.Context(), identity.Event{
				TenantID: f.TenantID, Kind: "test", Actor: identity.Actor(actor),
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.DeleteInstance(t.Context(), f.TenantID, f.OtherInstanceID, identity.System); err != nil {
			t.Fatal(err) // it deletes the key
		}
		for actor, name := range actors {
			got := f.Expect(f.Token, "GET", "/v1/audit?actor="+actor, "", 200, nil)
			var page struct{ Items []map[string]any }
			if err := json.Unmarshal([]byte(got.Body), &page); err != nil || len(page.Items) == 0 {
				t.Fatalf("events of %s = %s, %v", actor, got.Body, err)
			}
			for _, e := range page.Items {
				if e["actor_name"] != name {
					t.Errorf("actor_name of %s = %v, want %v", actor, e["actor_name"], name)
				}
			}
		}
	})
}
