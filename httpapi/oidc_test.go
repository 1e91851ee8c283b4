package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"hydragate/identity"
)

// fakeStaff knows tokens by heart.
type fakeStaff map[string]Member

func (f fakeStaff) Recognise(_ context.Context, token string) (Member, error) {
	m, ok := f[token]
	switch {
	case strings.HasSuffix(token, ".down"):
		return Member{}, ErrNoIssuer
	case !ok:
		return Member{}, ErrNotStaff
	}
	return m, nil
}

const (
	mattToken = "eyJh.matt.sig"
	anneToken = "eyJh.second.sig"
	newToken  = "eyJh.nobody.sig"
)

func withStaff(a *API) {
	a.StaffIssuer = "https://login.example.com/"
	a.Staff = fakeStaff{
		mattToken: {Subject: "auth0|matt", Scopes: []string{"customers:read", "customers:write", "claims:issue", "identities:write"}},
		anneToken: {Subject: "line\nbreak", Scopes: identity.Scopes},
		newToken:  {Subject: "nobody"},
	}
}

func TestStaffAreLetIn(t *testing.T) {
	w := newWorld(t, withStaff)
	long := w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	for name, c := range map[string]struct {
		headers []string
		status  int
		body    string
	}{
		"staff":             {[]string{as(mattToken)}, 200, ""},
		"key still":         {[]string{as(long)}, 200, ""},
		"no rights":         {[]string{as(newToken)}, 403, `{"detail":"Missing scope: customers:read"}`},
		"not recognised":    {[]string{as("eyJh.forged.sig")}, 401, `{"detail":"Not authenticated"}`},
		"too long":          {[]string{as("eyJh." + strings.Repeat("x", maxJWT) + ".sig")}, 401, ""},
		"issuer down":       {[]string{as("eyJh.x.down")}, 503, ""},
		"not as a key":      {[]string{"Authorization", "X-Api-Key: " + mattToken}, 401, ""},
		"with another key":  {[]string{as(mattToken), "X-Api-Key: " + long}, 401, ""},
		"not in the query":  {[]string{"Authorization"}, 401, ""},
		"of another scheme": {[]string{"Authorization: Basic " + mattToken}, 401, ""},
	} {
		got := w.ask("GET", "/v1/customers?access_token="+mattToken, "", c.headers...)
		if got.status != c.status || c.body != "" && got.body != c.body {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := w.ask("GET", "/v1/customers", "", as("eyJh.x.down")); got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if log := w.log.String(); strings.Contains(log, mattToken) || !strings.Contains(log, `"key":"user:auth0|matt"`) {
		t.Error(log)
	}
}

func TestStaffOffMeansOff(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("GET", "/v1/customers", "", as(mattToken)), 401, "")
	w.want(w.ask("GET", "/v1/customers", "", as("eyJh."+strings.Repeat("x", 5000)+".sig")), 401, "")
}

// A bootstrap key may be any text, also one that looks like a token.
func TestKeyThatLooksLikeAToken(t *testing.T) {
	w := newWorld(t, withStaff)
	const odd = "eyJhbGciOiJ.admin-key-of-long-ago.down"
	_, _ = w.store.CreateAPIKey(t.Context(), identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes}, identity.HashToken(odd), "")
	w.want(w.ask("GET", "/v1/customers", "", as(odd)), 200, "")
}

func TestStaffActor(t *testing.T) {
	for subject, want := range map[string]identity.Actor{
		"matt":                     "user:matt",
		"auth0|5f7c":               "user:auth0|5f7c",
		"matt@example.com":         "user:matt@example.com",
		"line\nbreak":              "user:~",
		"key:1 and more":           "user:~",
		strings.Repeat("x", 129):   "user:~",
		"~0123456789abcdef0123456": "user:~",
	} {
		got := identity.APIKey{ID: "x", User: safeSubject(subject)}.Actor()
		if hashed := strings.HasSuffix(string(want), "~"); got != want && (!hashed || len(got) != len("user:~")+32 || !strings.HasPrefix(string(got), string(want))) {
			t.Errorf("%q: %q", subject, got)
		}
	}
	if safeSubject("a b") == safeSubject("a  b") {
		t.Error("two people are one")
	}
}

// Each person has a rate limit and idempotency keys of their own.
func TestStaffAreDifferentCallers(t *testing.T) {
	w := newWorld(t, withStaff, func(a *API) { a.Rate, a.Burst = 0.001, 2 })
	first := w.ask("POST", "/v1/customers", `{"first_name":"Steve"}`, as(mattToken), "Idempotency-Key: one")
	w.want(first, 201, "")
	w.want(w.ask("POST", "/v1/customers", `{"first_name":"Steve"}`, as(mattToken), "Idempotency-Key: one"), 201, first.body)
	w.want(w.ask("GET", "/v1/customers", "", as(mattToken)), 429, "")
	if other := w.ask("POST", "/v1/customers", `{"first_name":"Steve"}`, as(anneToken), "Idempotency-Key: one"); other.status != 201 || other.body == first.body {
		t.Errorf("%d %s", other.status, other.body)
	}
}

func TestStaffClaims(t *testing.T) {
	all := strings.Join(identity.Scopes, " ")
	for claims, want := range map[string]string{
		`{"role":"admin"}`:                                          all,
		`{"roles":["viewer","admin"]}`:                              all,
		`{"roles":"viewer admin"}`:                                  all,
		`{"role":["admin"]}`:                                        all,
		`{"role":"Admin"}`:                                          "",
		`{"role":{"admin":true}}`:                                   "",
		`{"role":null,"roles":7}`:                                   "",
		`{"hydragate_scopes":"keys:read  keys:read"}`:               "keys:read",
		`{"hydragate_scopes":["keys:read keys:write"]}`:             "",
		`{"hydragate_scopes":"root","role":"admin"}`:                "",
		`{"hydragate_scopes":["audit:read"],"roles":["admin"]}`:     "audit:read",
		`{"hydragate_scopes":{"admin":true},"roles":["admin"]}`:     "",
		`{"scope":"keys:write","realm_access":{"roles":["admin"]}}`: "",
	} {
		var c StaffClaims
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Errorf("%s: %v", claims, err)
		}
		if got := strings.Join(c.Allowed(), " "); got != want {
			t.Errorf("%s: %q; want %q", claims, got, want)
		}
	}
	for _, c := range []struct{ role, may, mayNot string }{
		{"staff", "claims:issue", "identities:grant"}, {"staff", "customers:write", "channels:write"}, {"staff", "audit:read", "keys:read"},
		{"viewer", "customers:read", "claims:issue"}, {"viewer", "deliveries:read", "deliveries:write"}, {"viewer", "messages:read", "keys:read"},
	} {
		got := StaffClaims{Roles: names{c.role}}.Allowed()
		if !slices.Contains(got, c.may) || slices.Contains(got, c.mayNot) {
			t.Errorf("%s: %v", c.role, got)
		}
	}
}

func TestStaffInTheDocument(t *testing.T) {
	w := newWorld(t, withStaff)
	var doc struct {
		Components struct {
			SecuritySchemes map[string]struct {
				Type string `json:"type"`
				URL  string `json:"openIdConnectUrl"`
			} `json:"securitySchemes"`
		} `json:"components"`
		Paths map[string]map[string]struct {
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(w.ask("GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	if s := doc.Components.SecuritySchemes["staff"]; s.Type != "openIdConnect" || s.URL != "https://login.example.com/.well-known/openid-configuration" {
		t.Errorf("%+v", s)
	}
	if sec := doc.Paths["/v1/customers"]["get"].Security; len(sec) != 3 {
		t.Errorf("%v", sec)
	}
}

// What recognising fails for, of its own accord, is not the caller's fault.
type brokenStaff struct{}

func (brokenStaff) Recognise(context.Context, string) (Member, error) {
	return Member{}, errors.New("out of order")
}

func TestStaffOutOfOrder(t *testing.T) {
	w := newWorld(t, func(a *API) { a.Staff = brokenStaff{} })
	w.want(w.ask("GET", "/v1/customers", "", as(mattToken)), 500, `{"detail":"Internal Server Error"}`)
}
