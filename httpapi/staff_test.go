package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// fakeStaff knows tokens by heart.
type fakeStaff map[string]operation.StaffMember

func (f fakeStaff) Verify(_ context.Context, token string) (operation.StaffMember, error) {
	m, ok := f[token]
	switch {
	case strings.HasSuffix(token, ".down"):
		return operation.StaffMember{}, operation.ErrIssuerUnavailable
	case !ok:
		return operation.StaffMember{}, operation.ErrInvalidStaffToken
	}
	return m, nil
}

const (
	staffToken     = "eyJh.matt.sig"
	allScopesToken = "eyJh.second.sig"
	noScopesToken  = "eyJh.nobody.sig"
)

func withStaff(a *API) {
	a.StaffIssuer = "https://login.example.com/"
	a.Staff = fakeStaff{
		staffToken:     {Subject: "auth0|matt", Scopes: []string{"customers:read", "customers:write", "claims:issue", "identities:write"}},
		allScopesToken: {Subject: "line\nbreak", Scopes: identity.Scopes},
		noScopesToken:  {Subject: "nobody"},
	}
}

func TestStaff_Authentication(t *testing.T) {
	w := newHarness(t, withStaff)
	long := w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	for name, c := range map[string]struct {
		headers []string
		status  int
		body    string
	}{
		"staff":             {[]string{bearer(staffToken)}, 200, ""},
		"key still":         {[]string{bearer(long)}, 200, ""},
		"no rights":         {[]string{bearer(noScopesToken)}, 403, `{"detail":"Missing scope: customers:read"}`},
		"not recognised":    {[]string{bearer("eyJh.forged.sig")}, 401, `{"detail":"Not authenticated"}`},
		"too long":          {[]string{bearer("eyJh." + strings.Repeat("x", maxJWTBytes) + ".sig")}, 401, ""},
		"issuer down":       {[]string{bearer("eyJh.x.down")}, 503, ""},
		"not as a key":      {[]string{"Authorization", "X-Api-Key: " + staffToken}, 401, ""},
		"with another key":  {[]string{bearer(staffToken), "X-Api-Key: " + long}, 401, ""},
		"not in the query":  {[]string{"Authorization"}, 401, ""},
		"of another scheme": {[]string{"Authorization: Basic " + staffToken}, 401, ""},
	} {
		got := w.request("GET", "/v1/customers?access_token="+staffToken, "", c.headers...)
		if got.status != c.status || c.body != "" && got.body != c.body {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := w.request("GET", "/v1/customers", "", bearer("eyJh.x.down")); got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if log := w.log.String(); strings.Contains(log, staffToken) || !strings.Contains(log, `"key":"user:auth0|matt"`) {
		t.Error(log)
	}
}

func TestStaff_Disabled(t *testing.T) {
	w := newHarness(t)
	w.expect(w.request("GET", "/v1/customers", "", bearer(staffToken)), 401, "")
	w.expect(w.request("GET", "/v1/customers", "", bearer("eyJh."+strings.Repeat("x", 5000)+".sig")), 401, "")
}

// A bootstrap key may be any text, also one that looks like a token.
func TestAuthentication_KeyResemblesJWT(t *testing.T) {
	w := newHarness(t, withStaff)
	const odd = "eyJhbGciOiJ.admin-key-of-long-ago.down"
	_, _ = w.store.CreateAPIKey(t.Context(), identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes}, identity.HashToken(odd), "")
	w.expect(w.request("GET", "/v1/customers", "", bearer(odd)), 200, "")
}

func TestStaff_Actor(t *testing.T) {
	for subject, want := range map[string]identity.Actor{
		"matt":                     "user:matt",
		"auth0|5f7c":               "user:auth0|5f7c",
		"matt@example.com":         "user:matt@example.com",
		"line\nbreak":              "user:~",
		"key:1 and more":           "user:~",
		strings.Repeat("x", 129):   "user:~",
		"~0123456789abcdef0123456": "user:~",
	} {
		got := identity.APIKey{ID: "x", User: sanitizeSubject(subject)}.Actor()
		if hashed := strings.HasSuffix(string(want), "~"); got != want && (!hashed || len(got) != len("user:~")+32 || !strings.HasPrefix(string(got), string(want))) {
			t.Errorf("%q: %q", subject, got)
		}
	}
	if sanitizeSubject("a b") == sanitizeSubject("a  b") {
		t.Error("two people are one")
	}
}

// Each person has a rate limit and idempotency keys of their own.
func TestStaff_SeparateCallers(t *testing.T) {
	w := newHarness(t, withStaff, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 0.001, 2 })
	first := w.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(staffToken), "Idempotency-Key: one")
	w.expect(first, 201, "")
	w.expect(w.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(staffToken), "Idempotency-Key: one"), 201, first.body)
	w.expect(w.request("GET", "/v1/customers", "", bearer(staffToken)), 429, "")
	if other := w.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(allScopesToken), "Idempotency-Key: one"); other.status != 201 || other.body == first.body {
		t.Errorf("%d %s", other.status, other.body)
	}
}

func TestStaff_OpenAPI(t *testing.T) {
	w := newHarness(t, withStaff)
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
	if err := json.Unmarshal([]byte(w.request("GET", "/openapi.json", "").body), &doc); err != nil {
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
type failingStaff struct{}

func (failingStaff) Verify(context.Context, string) (operation.StaffMember, error) {
	return operation.StaffMember{}, errors.New("out of order")
}

func TestStaff_VerifierError(t *testing.T) {
	w := newHarness(t, func(a *API) { a.Staff = failingStaff{} })
	w.expect(w.request("GET", "/v1/customers", "", bearer(staffToken)), 500, `{"detail":"Internal Server Error"}`)
}
