package oidc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"hydragate/identity"
)

// Claims are the claims of a staff token that determine the scopes of its holder:
//
//   - hydragate_scopes lists scopes, such as "customers:read claims:issue". If it is present, roles
//     are ignored. Unknown scopes are ignored.
//   - Otherwise the roles in roles and role determine the scopes; see identity.RoleScopes. Unknown
//     roles are ignored.
//
// Each claim is a list of names, or one string of names separated by spaces.
type Claims struct {
	Scopes *stringList `json:"hydragate_scopes"`
	Roles  stringList  `json:"roles"`
	Role   stringList  `json:"role"`
}

// GrantedScopes returns the scopes that the claims grant, sorted and without duplicates.
func (c Claims) GrantedScopes() []string {
	granted := map[string]bool{}
	if c.Scopes != nil {
		for _, s := range *c.Scopes {
			granted[s] = slices.Contains(identity.Scopes, s)
		}
	} else {
		for _, role := range slices.Concat(c.Roles, c.Role) {
			for _, s := range identity.RoleScopes(role) {
				granted[s] = true
			}
		}
	}
	maps.DeleteFunc(granted, func(_ string, ok bool) bool { return !ok })
	return slices.Sorted(maps.Keys(granted))
}

// A stringList is decoded from a list of strings, or from one string of words separated by spaces.
// Any other value decodes to an empty list, which grants nothing.
type stringList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *stringList) UnmarshalJSON(b []byte) error {
	*l = stringList{}
	var list []any
	if json.Unmarshal(b, &list) == nil {
		for _, v := range list {
			if s, ok := v.(string); ok {
				*l = append(*l, s)
			}
		}
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		*l = append(*l, strings.Fields(text)...)
	}
	return nil
}
