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

// fakeStaff verifies tokens by looking them up.
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
	noScopesToken  = "eyJh.noscopes.sig"
)

func withStaff(a *API) {
	a.StaffIssuer = "https://login.example.com/"
	a.Staff = fakeStaff{
		staffToken: {
			Subject: "auth0|matt",
			Scopes:  []string{"customers:read", "customers:write", "claims:issue", "identities:write"},
		},
		allScopesToken: {Subject: "line\nbreak", Scopes: identity.Scopes},
		noScopesToken:  {Subject: "noscopes"},
	}
}

func TestStaff_Authentication(t *testing.T) {
	h := newHarness(t, withStaff)
	long := h.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes})
	for name, c := range map[string]struct {
		headers []string
		status  int
		body    string
	}{
		"staff":           {[]string{bearer(staffToken)}, 200, ""},
		"API key":         {[]string{bearer(long)}, 200, ""},
		"no scopes":       {[]string{bearer(noScopesToken)}, 403, `{"detail":"Missing scope: customers:read"}`},
		"invalid":         {[]string{bearer("eyJh.forged.sig")}, 401, `{"detail":"Not authenticated"}`},
		"too long":        {[]string{bearer("eyJh." + strings.Repeat("x", maxJWTBytes) + ".sig")}, 401, ""},
		"issuer down":     {[]string{bearer("eyJh.x.down")}, 503, ""},
		"in X-Api-Key":    {[]string{"Authorization", "X-Api-Key: " + staffToken}, 401, ""},
		"with an API key": {[]string{bearer(staffToken), "X-Api-Key: " + long}, 401, ""},
		"in the query":    {[]string{"Authorization"}, 401, ""},
		"other scheme":    {[]string{"Authorization: Basic " + staffToken}, 401, ""},
	} {
		path := "/v1/customers"
		if name == "in the query" {
			path += "?access_token=" + staffToken
		}
		got := h.request("GET", path, "", c.headers...)
		if got.status != c.status || c.body != "" && got.body != c.body {
			t.Errorf("%s: got %d %s, want %d %s", name, got.status, got.body, c.status, c.body)
		}
	}
	if got := h.request("GET", "/v1/customers", "", bearer("eyJh.x.down")); got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if log := h.log.String(); strings.Contains(log, staffToken) || !strings.Contains(log, `"key":"user:auth0|matt"`) {
		t.Errorf("log = %s", log)
	}
}

func TestStaff_Disabled(t *testing.T) {
	h := newHarness(t)
	h.expect(h.request("GET", "/v1/customers", "", bearer(staffToken)), 401, "")
	h.expect(h.request("GET", "/v1/customers", "", bearer("eyJh."+strings.Repeat("x", 5000)+".sig")), 401, "")
}

// TestAuthentication_KeyResemblesJWT checks that an API key that looks like a JWT is accepted.
func TestAuthentication_KeyResemblesJWT(t *testing.T) {
	h := newHarness(t, withStaff)
	const key = "eyJhbGciOiJ.admin-key.down"
	_, _ = h.store.CreateAPIKey(
		t.Context(), identity.APIKey{TenantID: identity.DefaultTenant, Scopes: identity.Scopes},
		identity.HashToken(key), "",
	)
	h.expect(h.request("GET", "/v1/customers", "", bearer(key)), 200, "")
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
		if hashed := strings.HasSuffix(string(want), "~"); got != want &&
			(!hashed || len(got) != len("user:~")+32 || !strings.HasPrefix(string(got), string(want))) {
			t.Errorf("actor of subject %q = %q, want %q", subject, got, want)
		}
	}
	if sanitizeSubject("a b") == sanitizeSubject("a  b") {
		t.Error("different subjects have the same name")
	}
}

// TestStaff_SeparateCallers checks that rate limits and idempotency keys are separate for each
// member of staff.
func TestStaff_SeparateCallers(t *testing.T) {
	h := newHarness(t, withStaff, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 0.001, 2 })
	first := h.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(staffToken), "Idempotency-Key: one")
	h.expect(first, 201, "")
	again := h.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(staffToken), "Idempotency-Key: one")
	h.expect(again, 201, first.body)
	h.expect(h.request("GET", "/v1/customers", "", bearer(staffToken)), 429, "")
	other := h.request("POST", "/v1/customers", `{"first_name":"Steve"}`, bearer(allScopesToken), "Idempotency-Key: one")
	if other.status != 201 || other.body == first.body {
		t.Errorf("%d %s", other.status, other.body)
	}
}

func TestStaff_OpenAPI(t *testing.T) {
	h := newHarness(t, withStaff)
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
	if err := json.Unmarshal([]byte(h.request("GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	if s := doc.Components.SecuritySchemes["staff"]; s.Type != "openIdConnect" ||
		s.URL != "https://login.example.com/.well-known/openid-configuration" {
		t.Errorf("%+v", s)
	}
	if sec := doc.Paths["/v1/customers"]["get"].Security; len(sec) != 3 {
		t.Errorf("%v", sec)
	}
}

// failingStaff returns an unexpected error.
type failingStaff struct{}

func (failingStaff) Verify(context.Context, string) (operation.StaffMember, error) {
	return operation.StaffMember{}, errors.New("unexpected")
}

func TestStaff_VerifierError(t *testing.T) {
	h := newHarness(t, func(a *API) { a.Staff = failingStaff{} })
	h.expect(h.request("GET", "/v1/customers", "", bearer(staffToken)), 500, `{"detail":"Internal Server Error"}`)
}

// TestStaff_NameSaved checks that the name of a member of staff is stored for the audit log, once, and
// that it is cleaned and shortened.
func TestStaff_NameSaved(t *testing.T) {
	names := map[string]string{
		"Matt Example": "Matt Example", " Matt\x00\xff ": "Matt", strings.Repeat("x", 300): strings.Repeat("x", 255), "": "",
	}
	for name, want := range names {
		h := newHarness(t, func(a *API) {
			a.Staff = fakeStaff{staffToken: {Subject: "auth0|matt", Name: name, Scopes: identity.Scopes}}
		})
		for range 2 {
			h.expect(h.request("GET", "/v1/customers", "", bearer(staffToken)), 200, "")
		}
		if got := h.store.ActorNames["user:auth0|matt"]; got != want {
			t.Errorf("stored name of %q = %q, want %q", name, got, want)
		}
	}
}
