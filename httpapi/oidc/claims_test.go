package oidc

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"hydragate/identity"
)

func TestClaims_GrantedScopes(t *testing.T) {
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
		var c Claims
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Errorf("%s: %v", claims, err)
		}
		if got := strings.Join(c.GrantedScopes(), " "); got != want {
			t.Errorf("%s: %q; want %q", claims, got, want)
		}
	}
	for _, c := range []struct{ role, may, mayNot string }{
		{"staff", "claims:issue", "identities:grant"},
		{
			"staff", "customers:write", "channels:write",
		},
		{"staff", "audit:read", "keys:read"},
		{"viewer", "customers:read", "claims:issue"},
		{
			"viewer", "deliveries:read", "deliveries:write",
		},
		{"viewer", "messages:read", "keys:read"},
	} {
		got := Claims{Roles: stringList{c.role}}.GrantedScopes()
		if !slices.Contains(got, c.may) || slices.Contains(got, c.mayNot) {
			t.Errorf("%s: %v", c.role, got)
		}
	}
}
