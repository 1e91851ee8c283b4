package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
)

func TestAuthentication(t *testing.T) {
	w := newHarness(t)
	expired := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: w.clock})
	revoked := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, RevokedAt: w.clock.Add(-time.Hour)})
	const none = "Authorization"
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
	}{
		"bearer":                    {"", nil, 200},
		"bearer in lower case":      {"", []string{"Authorization: bearer " + w.adminToken}, 200},
		"X-Api-Key":                 {"", []string{none, "X-Api-Key: " + w.adminToken}, 200},
		"both, the same":            {"", []string{"X-Api-Key: " + w.adminToken}, 200},
		"both, different":           {"", []string{"X-Api-Key: " + w.foreignToken}, 401},
		"none":                      {"", []string{none}, 401},
		"basic":                     {"", []string{"Authorization: Basic " + w.adminToken}, 401},
		"empty bearer":              {"", []string{"Authorization: Bearer"}, 401},
		"garbage":                   {"", []string{bearer("hg_live_garbage")}, 401},
		"long garbage":              {"", []string{bearer(strings.Repeat("x", 5000))}, 401},
		"expired":                   {"", []string{bearer(expired)}, 401},
		"revoked":                   {"", []string{bearer(revoked)}, 401},
		"in the query":              {"?api_key=" + w.adminToken + "&access_token=" + w.adminToken, []string{none}, 401},
		"with the hash for a token": {"", []string{bearer(identity.HashToken(w.adminToken))}, 401},
	} {
		got := w.request("GET", "/v1/customers"+c.path, "", c.headers...)
		if got.status != c.status {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if c.status == 401 && (got.body != `{"detail":"Not authenticated"}` || got.header.Get("WWW-Authenticate") != "Bearer") {
			t.Errorf("%s: %s %v", name, got.body, got.header)
		}
	}
	if log := w.log.String(); strings.Contains(log, w.adminToken) || strings.Contains(log, "garbage") {
		t.Error("a token in the log")
	}
}

func TestRevokeKey_EffectiveImmediately(t *testing.T) {
	w := newHarness(t)
	made := w.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	token, id := made["key"].(string), made["id"].(string)
	if !strings.HasPrefix(token, "hg_live_") || made["hint"] != token[len(token)-4:] {
		t.Errorf("%v", made)
	}
	w.expect(w.request("GET", "/v1/customers", "", bearer(token)), 200, "")
	few := bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:write"}}))
	w.expect(w.request("DELETE", "/v1/keys/"+id, "", few), 403, `{"detail":"Missing scope: customers:read"}`)
	w.expect(w.request("DELETE", "/v1/keys/"+id, ""), 204, "")
	w.expect(w.request("GET", "/v1/customers", "", bearer(token)), 401, "")
}

// A key revoked behind our back, by another replica, ends within two seconds.
func TestKeyCache_Expires(t *testing.T) {
	w := newHarness(t)
	w.expect(w.request("GET", "/v1/customers", ""), 200, "")
	if err := w.store.RevokeAPIKey(context.Background(), identity.DefaultTenant, w.firstKeyID(), ""); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(2 * time.Second)
	w.expect(w.request("GET", "/v1/customers", ""), 401, "")
}

func TestRateLimit(t *testing.T) {
	w := newHarness(t, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 1, 3 })
	for range 3 {
		w.expect(w.request("GET", "/v1/customers", ""), 200, "")
	}
	got := w.request("GET", "/v1/customers", "")
	w.expect(got, 429, `{"detail":"Too Many Requests"}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	w.expect(w.request("GET", "/v1/customers", "", bearer(w.foreignToken)), 200, "")
	w.clock = w.clock.Add(time.Second)
	w.expect(w.request("GET", "/v1/customers", ""), 200, "")
}

func TestCreateKey_ScopeSubset(t *testing.T) {
	w := newHarness(t)
	few := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:write", "keys:read", "customers:read"}})
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read","claims:issue"]}`, bearer(few)), 403, `{"detail":"Missing scope: claims:issue"}`)
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`, bearer(few)), 201, "")
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["root"]}`, bearer(few)), 422, "")
	w.expect(w.request("POST", "/v1/keys/"+w.firstKeyID()+"/rotate", "", bearer(few)), 403, "")
	brief := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: w.clock.Add(time.Hour)})
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, bearer(brief)), 403, `{"detail":"A key cannot create keys that outlive it"}`)
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"2026-11-22T02:30:00+00:00"}`, bearer(brief)), 201, "")
	w.expect(w.request("POST", "/v1/keys/"+w.firstKeyID()+"/rotate", "", bearer(brief)), 403, "")
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"2020-01-01T00:00:00Z"}`), 422, "")
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read","channels:write"],"instance_id":"`+w.instance+`"}`), 422,
		`{"detail":[{"type":"value_error","loc":["body","scopes",1],"msg":"Value error, a key limited to one instance cannot have the scope channels:write"}]}`)
	w.expect(w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"`+w.foreignInstance+`"}`), 404, `{"detail":"Instance not found"}`)
}

func TestRotateKey_GracePeriod(t *testing.T) {
	w := newHarness(t)
	made := w.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	old := made["key"].(string)
	rotated := w.request("POST", "/v1/keys/"+made["id"].(string)+"/rotate", `{"overlap_seconds":60}`)
	w.expect(rotated, 201, "")
	fresh := rotated.fields(t)["key"].(string)
	w.expect(w.request("GET", "/v1/customers", "", bearer(old)), 200, "")
	w.expect(w.request("GET", "/v1/customers", "", bearer(fresh)), 200, "")
	w.clock = w.clock.Add(61 * time.Second)
	w.expect(w.request("GET", "/v1/customers", "", bearer(old)), 401, "")
	w.expect(w.request("GET", "/v1/customers", "", bearer(fresh)), 200, "")
	w.expect(w.request("POST", "/v1/keys/"+made["id"].(string)+"/rotate", ""), 409, "")
}

func TestIdentityGrant_RequiresScope(t *testing.T) {
	w := newHarness(t)
	writer := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"identities:write", "identities:read", "claims:issue"}})
	one := "/v1/customers/" + w.customer + "/identities/" + w.tenantIdentity
	const missing = `{"detail":"Missing scope: identities:grant"}`
	for _, body := range []string{`{"verified":true}`, `{"verified":false}`, `{"verified":null}`, `{"role_override":"owner"}`, `{"role_override":null}`} {
		w.expect(w.request("PATCH", one, body, bearer(writer)), 403, missing)
	}
	w.expect(w.request("PATCH", one, `{"display_name":"S"}`, bearer(writer)), 200, "")
	w.expect(w.request("POST", "/v1/customers/"+w.customer+"/identities", `{"channel":"telegram","external_id":"9","role_override":"owner"}`, bearer(writer)), 403, missing)
	w.expect(w.request("POST", "/v1/customers/"+w.customer+"/identities", `{"channel":"telegram","external_id":"9","role_override":null}`, bearer(writer)), 201, "")
	w.expect(w.request("POST", "/v1/customers/"+w.customer+"/invites", `{"channel":"telegram","instance_id":"`+w.instance+`","role_override":"owner"}`, bearer(writer)), 403, missing)
}

func TestInstanceKey_Access(t *testing.T) {
	w := newHarness(t)
	var most []string
	for _, s := range identity.Scopes {
		if s != "channels:write" {
			most = append(most, s)
		}
	}
	k := bearer(w.newInstanceKey(most...))
	w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:read"}, InstanceID: w.otherInstance})
	mine, of := "/v1/customers/"+w.customer+"/identities", "/v1/customers/"+w.customer+"/identities/"
	const (
		noInstance = `{"detail":"Instance not found"}`
		noIdentity = `{"detail":"Identity not found"}`
		onlyIts    = `{"detail":"This API key is limited to one instance"}`
	)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/instances/" + w.instance, "", 200, ""},
		{"GET", "/v1/instances/" + w.otherInstance, "", 404, noInstance},
		{"PATCH", "/v1/instances/" + w.otherInstance, `{"name":"x"}`, 404, noInstance},
		{"DELETE", "/v1/instances/" + w.otherInstance, "", 404, noInstance},
		{"POST", "/v1/instances", `{"name":"x"}`, 403, onlyIts},
		{"GET", "/v1/instances/" + w.otherInstance + "/channels", "", 404, noInstance},
		{"GET", "/v1/instances/" + w.otherInstance + "/channels/sms", "", 404, noInstance},
		{"GET", "/v1/instances/" + w.instance + "/channels/sms", "", 200, `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`},
		{"GET", of + w.instanceIdentity, "", 200, ""},
		{"GET", of + w.tenantIdentity, "", 200, ""},
		{"GET", of + w.otherInstanceIdentity, "", 404, noIdentity},
		{"PATCH", of + w.instanceIdentity, `{"verified":true}`, 200, ""},
		{"PATCH", of + w.tenantIdentity, `{"display_name":"x"}`, 403, onlyIts},
		{"PATCH", of + w.otherInstanceIdentity, `{"display_name":"x"}`, 404, noIdentity},
		{"DELETE", of + w.tenantIdentity, "", 403, onlyIts},
		{"DELETE", of + w.otherInstanceIdentity, "", 404, noIdentity},
		{"POST", of + w.tenantIdentity + "/claim-code", "", 403, onlyIts},
		{"POST", of + w.otherInstanceIdentity + "/claim-code", "", 404, noIdentity},
		{"POST", of + w.otherSender + "/adopt", "", 404, noIdentity},
		{"POST", of + w.sender + "/adopt", "", 200, ""},
		{"POST", mine, `{"channel":"telegram","external_id":"1","instance_id":"` + w.otherInstance + `"}`, 404, noInstance},
		{"GET", "/v1/identities?customer=none&instance_id=" + w.otherInstance, "", 404, noInstance},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347", "", 404, noIdentity},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347&instance_id=" + w.otherInstance, "", 404, noIdentity},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12346", "", 200, ""},
		{"POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"` + w.otherInstance + `"}`, 404, noInstance},
		{"POST", "/v1/keys/" + w.firstKeyID() + "/rotate", "", 404, `{"detail":"API key not found"}`},
		{"DELETE", "/v1/keys/" + w.firstKeyID(), "", 404, `{"detail":"API key not found"}`},
	} {
		got := w.request(c.method, c.path, c.body, k)
		if got.status != c.status || c.want != "" && got.body != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
	if got := w.request("POST", mine, `{"channel":"telegram","external_id":"2"}`, k).fields(t); got["instance_id"] != w.instance {
		t.Errorf("linked for %v", got["instance_id"])
	}
	if got := w.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, k).fields(t); got["instance_id"] != w.instance {
		t.Errorf("a key for %v", got["instance_id"])
	}
	for path, want := range map[string]int{"/v1/instances": 1, "/v1/keys": 2, "/v1/identities?customer=none": 0} {
		if items := w.request("GET", path, "", k).fields(t)["items"].([]any); len(items) != want {
			t.Errorf("%s: %d items, want %d", path, len(items), want)
		}
	}
	if list := w.request("GET", mine, "", k).body; strings.Contains(list, w.otherInstanceIdentity) || !strings.Contains(list, w.instanceIdentity) {
		t.Errorf("%s", list)
	}
}

func TestStore_Unavailable(t *testing.T) {
	w := newHarness(t)
	w.store.err = errors.New("dial postgres: refused")
	w.clock = w.clock.Add(time.Minute)
	got := w.request("GET", "/v1/customers", "")
	w.expect(got, 500, `{"detail":"Internal Server Error"}`)
	if !strings.Contains(w.log.String(), got.header.Get("X-Request-Id")) || !strings.Contains(w.log.String(), "dial postgres") {
		t.Error("not logged with its id")
	}
	w.store.err = context.DeadlineExceeded
	w.expect(w.request("GET", "/v1/customers", ""), 503, `{"detail":"Service Unavailable"}`)
}

// A token is what stands in the headers, alone or the same in both, and nothing else.
func FuzzRequestToken(f *testing.F) {
	f.Add("Bearer hg_live_x", "")
	f.Add("bearer  hg_live_x ", "hg_live_x")
	f.Add("Bearer a", "b")
	f.Add("Basic YTpi", "a")
	f.Add("", " ")
	f.Add("Bearer", "")
	f.Add("Bearer\u00a0x", "")
	f.Fuzz(func(t *testing.T, authorization, apiKey string) {
		h := http.Header{}
		if authorization != "" {
			h.Add("Authorization", authorization)
		}
		if apiKey != "" {
			h.Add("X-Api-Key", apiKey)
		}
		token, ok := requestToken(h)
		switch {
		case !ok && token != "":
			t.Errorf("no token, and %q", token)
		case ok && (token == "" || token != strings.TrimSpace(token)):
			t.Errorf("the token %q", token)
		case ok && authorization != "" && !(strings.EqualFold(authorization[:7], "Bearer ") && strings.HasSuffix(strings.TrimSpace(authorization), token)):
			t.Errorf("%q gives %q", authorization, token)
		case ok && apiKey != "" && strings.TrimSpace(apiKey) != token:
			t.Errorf("%q gives %q", apiKey, token)
		}
	})
}
