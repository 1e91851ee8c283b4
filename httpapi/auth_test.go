package httpapi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
)

func TestAuthentication(t *testing.T) {
	w := newWorld(t)
	expired := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: w.clock})
	revoked := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, RevokedAt: w.clock.Add(-time.Hour)})
	const none = "Authorization"
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
	}{
		"bearer":                    {"", nil, 200},
		"bearer in lower case":      {"", []string{"Authorization: bearer " + w.token}, 200},
		"X-Api-Key":                 {"", []string{none, "X-Api-Key: " + w.token}, 200},
		"both, the same":            {"", []string{"X-Api-Key: " + w.token}, 200},
		"both, different":           {"", []string{"X-Api-Key: " + w.foreign}, 401},
		"none":                      {"", []string{none}, 401},
		"basic":                     {"", []string{"Authorization: Basic " + w.token}, 401},
		"empty bearer":              {"", []string{"Authorization: Bearer"}, 401},
		"garbage":                   {"", []string{as("hg_live_garbage")}, 401},
		"long garbage":              {"", []string{as(strings.Repeat("x", 5000))}, 401},
		"expired":                   {"", []string{as(expired)}, 401},
		"revoked":                   {"", []string{as(revoked)}, 401},
		"in the query":              {"?api_key=" + w.token + "&access_token=" + w.token, []string{none}, 401},
		"with the hash for a token": {"", []string{as(identity.HashToken(w.token))}, 401},
	} {
		got := w.ask("GET", "/v1/customers"+c.path, "", c.headers...)
		if got.status != c.status {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if c.status == 401 && (got.body != `{"detail":"Not authenticated"}` || got.header.Get("WWW-Authenticate") != "Bearer") {
			t.Errorf("%s: %s %v", name, got.body, got.header)
		}
	}
	if log := w.log.String(); strings.Contains(log, w.token) || strings.Contains(log, "garbage") {
		t.Error("a token in the log")
	}
}

func TestRevokedKeyEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	made := w.ask("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	token, id := made["key"].(string), made["id"].(string)
	if !strings.HasPrefix(token, "hg_live_") || made["hint"] != token[len(token)-4:] {
		t.Errorf("%v", made)
	}
	w.want(w.ask("GET", "/v1/customers", "", as(token)), 200, "")
	few := as(w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:write"}}))
	w.want(w.ask("DELETE", "/v1/keys/"+id, "", few), 403, `{"detail":"Missing scope: customers:read"}`)
	w.want(w.ask("DELETE", "/v1/keys/"+id, ""), 204, "")
	w.want(w.ask("GET", "/v1/customers", "", as(token)), 401, "")
}

// A key revoked behind our back, by another replica, ends within two seconds.
func TestKeyCacheIsShort(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("GET", "/v1/customers", ""), 200, "")
	if err := w.store.RevokeAPIKey(context.Background(), identity.DefaultTenant, w.spareKey(), ""); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(2 * time.Second)
	w.want(w.ask("GET", "/v1/customers", ""), 401, "")
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(a *API) { a.Rate, a.Burst = 1, 3 })
	for range 3 {
		w.want(w.ask("GET", "/v1/customers", ""), 200, "")
	}
	got := w.ask("GET", "/v1/customers", "")
	w.want(got, 429, `{"detail":"Too Many Requests"}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	w.want(w.ask("GET", "/v1/customers", "", as(w.foreign)), 200, "")
	w.clock = w.clock.Add(time.Second)
	w.want(w.ask("GET", "/v1/customers", ""), 200, "")
}

func TestKeysHandNoMoreThanTheyHold(t *testing.T) {
	w := newWorld(t)
	few := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:write", "keys:read", "customers:read"}})
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["customers:read","claims:issue"]}`, as(few)), 403, `{"detail":"Missing scope: claims:issue"}`)
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`, as(few)), 201, "")
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["root"]}`, as(few)), 422, "")
	w.want(w.ask("POST", "/v1/keys/"+w.spareKey()+"/rotate", "", as(few)), 403, "")
	brief := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes, ExpiresAt: w.clock.Add(time.Hour)})
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, as(brief)), 403, `{"detail":"A key cannot create keys that outlive it"}`)
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"2026-11-22T02:30:00+00:00"}`, as(brief)), 201, "")
	w.want(w.ask("POST", "/v1/keys/"+w.spareKey()+"/rotate", "", as(brief)), 403, "")
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"expires_at":"2020-01-01T00:00:00Z"}`), 422, "")
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read","channels:write"],"instance_id":"`+w.bot+`"}`), 422,
		`{"detail":[{"type":"value_error","loc":["body","scopes",1],"msg":"Value error, a key limited to one instance cannot hold channels:write"}]}`)
	w.want(w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"`+w.strange+`"}`), 404, `{"detail":"Instance not found"}`)
}

func TestRotationOverlaps(t *testing.T) {
	w := newWorld(t)
	made := w.ask("POST", "/v1/keys", `{"name":"x","scopes":["customers:read"]}`).fields(t)
	old := made["key"].(string)
	rotated := w.ask("POST", "/v1/keys/"+made["id"].(string)+"/rotate", `{"overlap_seconds":60}`)
	w.want(rotated, 201, "")
	fresh := rotated.fields(t)["key"].(string)
	w.want(w.ask("GET", "/v1/customers", "", as(old)), 200, "")
	w.want(w.ask("GET", "/v1/customers", "", as(fresh)), 200, "")
	w.clock = w.clock.Add(61 * time.Second)
	w.want(w.ask("GET", "/v1/customers", "", as(old)), 401, "")
	w.want(w.ask("GET", "/v1/customers", "", as(fresh)), 200, "")
	w.want(w.ask("POST", "/v1/keys/"+made["id"].(string)+"/rotate", ""), 409, "")
}

func TestGrantNeedsItsOwnScope(t *testing.T) {
	w := newWorld(t)
	writer := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"identities:write", "identities:read", "claims:issue"}})
	one := "/v1/customers/" + w.steve + "/identities/" + w.linked
	const missing = `{"detail":"Missing scope: identities:grant"}`
	for _, body := range []string{`{"verified":true}`, `{"verified":false}`, `{"verified":null}`, `{"role_override":"owner"}`, `{"role_override":null}`} {
		w.want(w.ask("PATCH", one, body, as(writer)), 403, missing)
	}
	w.want(w.ask("PATCH", one, `{"display_name":"S"}`, as(writer)), 200, "")
	w.want(w.ask("POST", "/v1/customers/"+w.steve+"/identities", `{"channel":"telegram","external_id":"9","role_override":"owner"}`, as(writer)), 403, missing)
	w.want(w.ask("POST", "/v1/customers/"+w.steve+"/identities", `{"channel":"telegram","external_id":"9","role_override":null}`, as(writer)), 201, "")
	w.want(w.ask("POST", "/v1/customers/"+w.steve+"/invites", `{"channel":"telegram","instance_id":"`+w.bot+`","role_override":"owner"}`, as(writer)), 403, missing)
}

func TestKeyLimitedToOneInstance(t *testing.T) {
	w := newWorld(t)
	var most []string
	for _, s := range identity.Scopes {
		if s != "channels:write" {
			most = append(most, s)
		}
	}
	k := as(w.limited(most...))
	w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"keys:read"}, InstanceID: w.otherBot})
	mine, of := "/v1/customers/"+w.steve+"/identities", "/v1/customers/"+w.steve+"/identities/"
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
		{"GET", "/v1/instances/" + w.bot, "", 200, ""},
		{"GET", "/v1/instances/" + w.otherBot, "", 404, noInstance},
		{"PATCH", "/v1/instances/" + w.otherBot, `{"name":"x"}`, 404, noInstance},
		{"DELETE", "/v1/instances/" + w.otherBot, "", 404, noInstance},
		{"POST", "/v1/instances", `{"name":"x"}`, 403, onlyIts},
		{"GET", "/v1/instances/" + w.otherBot + "/channels", "", 404, noInstance},
		{"GET", "/v1/instances/" + w.otherBot + "/channels/sms", "", 404, noInstance},
		{"GET", "/v1/instances/" + w.bot + "/channels/sms", "", 200, `{"enabled":false,"phone_number":null,"status":"not_configured","webhook_url":null}`},
		{"GET", of + w.scoped, "", 200, ""},
		{"GET", of + w.linked, "", 200, ""},
		{"GET", of + w.elsewise, "", 404, noIdentity},
		{"PATCH", of + w.scoped, `{"verified":true}`, 200, ""},
		{"PATCH", of + w.linked, `{"display_name":"x"}`, 403, onlyIts},
		{"PATCH", of + w.elsewise, `{"display_name":"x"}`, 404, noIdentity},
		{"DELETE", of + w.linked, "", 403, onlyIts},
		{"DELETE", of + w.elsewise, "", 404, noIdentity},
		{"POST", of + w.linked + "/claim-code", "", 403, onlyIts},
		{"POST", of + w.elsewise + "/claim-code", "", 404, noIdentity},
		{"POST", of + w.otherSender + "/adopt", "", 404, noIdentity},
		{"POST", of + w.sender + "/adopt", "", 200, ""},
		{"POST", mine, `{"channel":"telegram","external_id":"1","instance_id":"` + w.otherBot + `"}`, 404, noInstance},
		{"GET", "/v1/identities?customer=none&instance_id=" + w.otherBot, "", 404, noInstance},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347", "", 404, noIdentity},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12347&instance_id=" + w.otherBot, "", 404, noIdentity},
		{"GET", "/v1/customers/lookup/identity?channel=telegram&external_id=12346", "", 200, ""},
		{"POST", "/v1/keys", `{"name":"x","scopes":["keys:read"],"instance_id":"` + w.otherBot + `"}`, 404, noInstance},
		{"POST", "/v1/keys/" + w.spareKey() + "/rotate", "", 404, `{"detail":"API key not found"}`},
		{"DELETE", "/v1/keys/" + w.spareKey(), "", 404, `{"detail":"API key not found"}`},
	} {
		got := w.ask(c.method, c.path, c.body, k)
		if got.status != c.status || c.want != "" && got.body != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
	if got := w.ask("POST", mine, `{"channel":"telegram","external_id":"2"}`, k).fields(t); got["instance_id"] != w.bot {
		t.Errorf("linked for %v", got["instance_id"])
	}
	if got := w.ask("POST", "/v1/keys", `{"name":"x","scopes":["keys:read"]}`, k).fields(t); got["instance_id"] != w.bot {
		t.Errorf("a key for %v", got["instance_id"])
	}
	for path, want := range map[string]int{"/v1/instances": 1, "/v1/keys": 2, "/v1/identities?customer=none": 0} {
		if items := w.ask("GET", path, "", k).fields(t)["items"].([]any); len(items) != want {
			t.Errorf("%s: %d items, want %d", path, len(items), want)
		}
	}
	if list := w.ask("GET", mine, "", k).body; strings.Contains(list, w.elsewise) || !strings.Contains(list, w.scoped) {
		t.Errorf("%s", list)
	}
}

func TestStoreThatIsDown(t *testing.T) {
	w := newWorld(t)
	w.store.down = errors.New("dial postgres: refused")
	w.clock = w.clock.Add(time.Minute)
	got := w.ask("GET", "/v1/customers", "")
	w.want(got, 500, `{"detail":"Internal Server Error"}`)
	if !strings.Contains(w.log.String(), got.header.Get("X-Request-Id")) || !strings.Contains(w.log.String(), "dial postgres") {
		t.Error("not logged with its id")
	}
	w.store.down = context.DeadlineExceeded
	w.want(w.ask("GET", "/v1/customers", ""), 503, `{"detail":"Service Unavailable"}`)
}
