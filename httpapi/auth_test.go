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
	h := newHarness(t)
	expired := h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: h.clock})
	revoked := h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: identity.Scopes, RevokedAt: h.clock.Add(-time.Hour),
	})
	const none = "Authorization"
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
	}{
		"bearer":               {"", nil, 200},
		"bearer in lower case": {"", []string{"Authorization: bearer " + h.adminToken}, 200},
		"X-Api-Key":            {"", []string{none, "X-Api-Key: " + h.adminToken}, 200},
		"both, equal":          {"", []string{"X-Api-Key: " + h.adminToken}, 200},
		"both, different":      {"", []string{"X-Api-Key: " + h.foreignToken}, 401},
		"no token":             {"", []string{none}, 401},
		"basic":                {"", []string{"Authorization: Basic " + h.adminToken}, 401},
		"empty bearer":         {"", []string{"Authorization: Bearer"}, 401},
		"unknown token":        {"", []string{bearer("hg_live_garbage")}, 401},
		"long unknown token":   {"", []string{bearer(strings.Repeat("x", 5000))}, 401},
		"expired":              {"", []string{bearer(expired)}, 401},
		"revoked":              {"", []string{bearer(revoked)}, 401},
		"in the query":         {"?api_key=" + h.adminToken + "&access_token=" + h.adminToken, []string{none}, 401},
		"hash as token":        {"", []string{bearer(identity.HashToken(h.adminToken))}, 401},
	} {
		got := h.request("GET", "/v1/customers"+c.path, "", c.headers...)
		if got.status != c.status {
			t.Errorf("%s: got %d %s, want %d", name, got.status, got.body, c.status)
		}
		if c.status == 401 &&
			(got.body != `{"detail":"Not authenticated"}` || got.header.Get("WWW-Authenticate") != "Bearer") {
			t.Errorf("%s: %s %v", name, got.body, got.header)
		}
	}
	if log := h.log.String(); strings.Contains(log, h.adminToken) || strings.Contains(log, "garbage") {
		t.Error("the log contains a token")
	}
}

func TestRevokeKey_EffectiveImmediately(t *testing.T) {
	h := newHarness(t)
	created := h.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	token, id := created["key"].(string), created["id"].(string)
	if !strings.HasPrefix(token, "hg_live_") || created["hint"] != token[len(token)-4:] {
		t.Errorf("created key = %v", created)
	}
	h.expect(h.request("GET", "/v1/customers", "", bearer(token)), 200, "")
	keyWriter := bearer(h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:write"}}))
	h.expect(h.request("DELETE", "/v1/keys/"+id, "", keyWriter), 403, `{"detail":"Missing scope: customers:read"}`)
	h.expect(h.request("DELETE", "/v1/keys/"+id, ""), 204, "")
	h.expect(h.request("GET", "/v1/customers", "", bearer(token)), 401, "")
}

// TestKeyCache_Expires checks that a key revoked by another replica is rejected after two seconds.
func TestKeyCache_Expires(t *testing.T) {
	h := newHarness(t)
	h.expect(h.request("GET", "/v1/customers", ""), 200, "")
	if err := h.store.RevokeAPIKey(context.Background(), identity.DefaultTenant, h.adminKey, ""); err != nil {
		t.Fatal(err)
	}
	h.clock = h.clock.Add(2 * time.Second)
	h.expect(h.request("GET", "/v1/customers", ""), 401, "")
}

func TestRateLimit(t *testing.T) {
	h := newHarness(t, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 1, 3 })
	for range 3 {
		h.expect(h.request("GET", "/v1/customers", ""), 200, "")
	}
	got := h.request("GET", "/v1/customers", "")
	h.expect(got, 429, `{"detail":"Too Many Requests"}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	h.expect(h.request("GET", "/v1/customers", "", bearer(h.foreignToken)), 200, "")
	h.clock = h.clock.Add(time.Second)
	h.expect(h.request("GET", "/v1/customers", ""), 200, "")
}

func TestCreateKey_ScopeSubset(t *testing.T) {
	h := newHarness(t)
	limited := h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: []string{"keys:write", "keys:read", "customers:read"},
	})
	h.expect(
		h.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read","claims:issue"]}`, bearer(limited)),
		403,
		`{"detail":"Missing scope: claims:issue"}`,
	)
	h.expect(h.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`, bearer(limited)), 201, "")
	h.expect(h.request("POST", "/v1/keys", `{"name":"x","scopes":["root"]}`, bearer(limited)), 422, "")
	h.expect(h.request("POST", "/v1/keys/"+h.adminKey+"/rotate", "", bearer(limited)), 403, "")
	expiring := h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: h.clock.Add(time.Hour),
	})
	h.expect(
		h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, bearer(expiring)),
		403,
		`{"detail":"A key cannot create keys that outlive it"}`,
	)
	shorter := `{"name":"x","scopes":["keys:read"],"expires_at":"2026-11-22T02:30:00+00:00"}`
	h.expect(h.request("POST", "/v1/keys", shorter, bearer(expiring)), 201, "")
	h.expect(h.request("POST", "/v1/keys/"+h.adminKey+"/rotate", "", bearer(expiring)), 403, "")
	h.expect(
		h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"2020-01-01T00:00:00Z"}`),
		422,
		"",
	)
	const zeroTime = `{"name":"x","scopes":["keys:read"],"expires_at":"0001-01-01T00:00:00Z"}`
	h.expect(h.request("POST", "/v1/keys", zeroTime), 422, "")
	h.expect(h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":null}`), 201, "")
	h.expect(
		h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read","channels:write"],"instance_id":"`+h.instance+`"}`),
		422,
		`{"detail":[{"type":"value_error","loc":["body","scopes",1],
			"msg":"Value error, a key limited to one instance cannot have the scope channels:write"}]}`,
	)
	h.expect(
		h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"`+h.foreignInstance+`"}`),
		404,
		`{"detail":"Instance not found"}`,
	)
}

func TestRotateKey_GracePeriod(t *testing.T) {
	h := newHarness(t)
	created := h.request("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	old := created["key"].(string)
	rotated := h.request("POST", "/v1/keys/"+created["id"].(string)+"/rotate", `{"overlap_seconds":60}`)
	h.expect(rotated, 201, "")
	token := rotated.fields(t)["key"].(string)
	h.expect(h.request("GET", "/v1/customers", "", bearer(old)), 200, "")
	h.expect(h.request("GET", "/v1/customers", "", bearer(token)), 200, "")
	h.clock = h.clock.Add(61 * time.Second)
	h.expect(h.request("GET", "/v1/customers", "", bearer(old)), 401, "")
	h.expect(h.request("GET", "/v1/customers", "", bearer(token)), 200, "")
	h.expect(h.request("POST", "/v1/keys/"+created["id"].(string)+"/rotate", ""), 409, "")
}

func TestIdentityGrant_RequiresScope(t *testing.T) {
	h := newHarness(t)
	writer := h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: []string{"identities:write", "identities:read", "claims:issue"},
	})
	one := "/v1/customers/" + h.customer + "/identities/" + h.tenantIdentity
	const missing = `{"detail":"Missing scope: identities:grant"}`
	for _, body := range []string{
		`{"verified":true}`, `{"verified":false}`, `{"verified":null}`, `{"role_override":"owner"}`,
		`{"role_override":null}`,
	} {
		h.expect(h.request("PATCH", one, body, bearer(writer)), 403, missing)
	}
	h.expect(h.request("PATCH", one, `{"display_name":"S"}`, bearer(writer)), 200, "")
	identities, invites := "/v1/customers/"+h.customer+"/identities", "/v1/customers/"+h.customer+"/invites"
	body := `{"channel":"telegram","external_id":"9","role_override":"owner"}`
	h.expect(h.request("POST", identities, body, bearer(writer)), 403, missing)
	body = `{"channel":"telegram","external_id":"9","role_override":null}`
	h.expect(h.request("POST", identities, body, bearer(writer)), 201, "")
	body = `{"channel":"telegram","instance_id":"` + h.instance + `","role_override":"owner"}`
	h.expect(h.request("POST", invites, body, bearer(writer)), 403, missing)
}

func TestInstanceKey_Access(t *testing.T) {
	h := newHarness(t)
	var scopes []string
	for _, s := range identity.Scopes {
		if s != "channels:write" {
			scopes = append(scopes, s)
		}
	}
	k := bearer(h.newInstanceKey(scopes...))
	h.newKey(identity.APIKey{
		TenantID: identity.DefaultTenant, Scopes: []string{"keys:read"}, InstanceID: h.otherInstance,
	})
	list, item := "/v1/customers/"+h.customer+"/identities", "/v1/customers/"+h.customer+"/identities/"
	const (
		noInstance = `{"detail":"Instance not found"}`
		noIdentity = `{"detail":"Identity not found"}`
		limited    = `{"detail":"This API key is limited to one instance"}`
		noChannel  = `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`
	)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/instances/" + h.instance, "", 200, ""},
		{"GET", "/v1/instances/" + h.otherInstance, "", 404, noInstance},
		{"PATCH", "/v1/instances/" + h.otherInstance, `{"name":"x"}`, 404, noInstance},
		{"DELETE", "/v1/instances/" + h.otherInstance, "", 404, noInstance},
		{"POST", "/v1/instances", `{"name":"x"}`, 403, limited},
		{"GET", "/v1/instances/" + h.otherInstance + "/channels", "", 404, noInstance},
		{"GET", "/v1/instances/" + h.otherInstance + "/channels/sms", "", 404, noInstance},
		{"GET", "/v1/instances/" + h.instance + "/channels/sms", "", 200, noChannel},
		{"GET", item + h.instanceIdentity, "", 200, ""},
		{"GET", item + h.tenantIdentity, "", 200, ""},
		{"GET", item + h.otherInstanceIdentity, "", 404, noIdentity},
		{"PATCH", item + h.instanceIdentity, `{"verified":true}`, 200, ""},
		{"PATCH", item + h.tenantIdentity, `{"display_name":"x"}`, 403, limited},
		{"PATCH", item + h.otherInstanceIdentity, `{"display_name":"x"}`, 404, noIdentity},
		{"DELETE", item + h.tenantIdentity, "", 403, limited},
		{"DELETE", item + h.otherInstanceIdentity, "", 404, noIdentity},
		{"POST", item + h.tenantIdentity + "/claim-code", "", 403, limited},
		{"POST", item + h.otherInstanceIdentity + "/claim-code", "", 404, noIdentity},
		{"POST", item + h.otherSender + "/adopt", "", 404, noIdentity},
		{"POST", item + h.sender + "/adopt", "", 200, ""},
		{"POST", list, `{"channel":"telegram","external_id":"1","instance_id":"` + h.otherInstance + `"}`, 404, noInstance},
		{"GET", "/v1/identities?customer=none&instance_id=" + h.otherInstance, "", 404, noInstance},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347", "", 404, noIdentity},
		{
			"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347&instance_id=" + h.otherInstance,
			"", 404, noIdentity,
		},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12346", "", 200, ""},
		{"POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"` + h.otherInstance + `"}`, 404, noInstance},
		{"POST", "/v1/keys/" + h.adminKey + "/rotate", "", 404, `{"detail":"API key not found"}`},
		{"DELETE", "/v1/keys/" + h.adminKey, "", 404, `{"detail":"API key not found"}`},
	} {
		got := h.request(c.method, c.path, c.body, k)
		if got.status != c.status || c.want != "" && got.body != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
	got := h.request("POST", list, `{"channel":"telegram","external_id":"2"}`, k).fields(t)
	if got["instance_id"] != h.instance {
		t.Errorf("instance of a new identity = %v, want %s", got["instance_id"], h.instance)
	}
	got = h.request("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, k).fields(t)
	if got["instance_id"] != h.instance {
		t.Errorf("instance of a new key = %v, want %s", got["instance_id"], h.instance)
	}
	for path, want := range map[string]int{"/v1/instances": 1, "/v1/keys": 2, "/v1/identities?customer=none": 0} {
		if items := h.request("GET", path, "", k).fields(t)["items"].([]any); len(items) != want {
			t.Errorf("%s: %d items, want %d", path, len(items), want)
		}
	}
	if body := h.request("GET", list, "", k).body; strings.Contains(body, h.otherInstanceIdentity) ||
		!strings.Contains(body, h.instanceIdentity) {
		t.Errorf("identities = %s", body)
	}
}

func TestStore_Unavailable(t *testing.T) {
	h := newHarness(t)
	h.store.Err = errors.New("dial postgres: refused")
	h.clock = h.clock.Add(time.Minute)
	got := h.request("GET", "/v1/customers", "")
	h.expect(got, 500, `{"detail":"Internal Server Error"}`)
	if !strings.Contains(
		h.log.String(), got.header.Get("X-Request-Id"),
	) || !strings.Contains(h.log.String(), "dial postgres") {
		t.Error("the error is not logged with the request ID")
	}
	h.store.Err = context.DeadlineExceeded
	h.expect(h.request("GET", "/v1/customers", ""), 503, `{"detail":"Service Unavailable"}`)
}

// FuzzRequestToken checks that a token is one of the headers without surrounding spaces.
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
			t.Errorf("requestToken returns no token, but %q", token)
		case ok && (token == "" || token != strings.TrimSpace(token)):
			t.Errorf("requestToken = %q", token)
		case ok && authorization != "" && (!strings.EqualFold(authorization[:7], "Bearer ") ||
			!strings.HasSuffix(strings.TrimSpace(authorization), token)):
			t.Errorf("token of Authorization %q = %q", authorization, token)
		case ok && apiKey != "" && strings.TrimSpace(apiKey) != token:
			t.Errorf("token of X-Api-Key %q = %q", apiKey, token)
		}
	})
}
