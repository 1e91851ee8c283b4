package oidc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"hydragate/identity"
)

// Claims are the claims of a staff token that say what its holder may do:
//
//   - hydragate_scopes lists scopes, such as "customers:read claims:issue". When it is
//     there, it alone decides; scopes that do not exist are nothing.
//   - Otherwise roles, or role, gives the scopes of the roles named. admin: every
//     scope. staff: reads all but API keys, writes customers, identities and messages,
//     replays deliveries, issues claim codes. viewer: reads all but API keys. Other
//     names are nothing.
//
// Each may be a list of names or one text with blanks between them.
type Claims struct {
	Scopes *stringList `json:"hydragate_scopes"`
	Roles  stringList  `json:"roles"`
	Role   stringList  `json:"role"`
}

// GrantedScopes gives the scopes that the claims stand for, each once and in order.
func (c Claims) GrantedScopes() []string {
	granted := map[string]bool{}
	if c.Scopes != nil {
		for _, s := range *c.Scopes {
			granted[s] = slices.Contains(identity.Scopes, s)
		}
	} else {
		for _, role := range slices.Concat(c.Roles, c.Role) {
			for _, s := range roleScopes(role) {
				granted[s] = true
			}
		}
	}
	maps.DeleteFunc(granted, func(_ string, ok bool) bool { return !ok })
	return slices.Sorted(maps.Keys(granted))
}

func roleScopes(role string) []string {
	reads := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool {
		return !strings.HasSuffix(s, ":read") || s == "keys:read"
	})
	switch role {
	case "admin":
		return identity.Scopes
	case "staff":
		return append(reads, "claims:issue", "customers:write", "deliveries:write", "identities:write", "messages:write")
	case "viewer":
		return reads
	}
	return nil
}

// stringList is a list of texts, or one text with blanks between them. Anything else is an
// empty list: a claim of another shape gives no rights.
type stringList []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *stringList) UnmarshalJSON(b []byte) error {
	*n = stringList{}
	var list []any
	if json.Unmarshal(b, &list) == nil {
		for _, v := range list {
			if s, ok := v.(string); ok {
				*n = append(*n, s)
			}
		}
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		*n = append(*n, strings.Fields(text)...)
	}
	return nil
}
