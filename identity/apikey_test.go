package identity

import (
	"strings"
	"testing"
	"time"
)

func TestRoleScopes(t *testing.T) {
	const (
		reads  = "audit:read channels:read customers:read deliveries:read identities:read instances:read messages:read"
		writes = " claims:issue customers:write deliveries:write identities:write messages:write"
	)
	for role, want := range map[string]string{
		"admin": strings.Join(Scopes, " "), "staff": reads + writes, "viewer": reads, "owner": "", "": "",
	} {
		if got := strings.Join(RoleScopes(role), " "); got != want {
			t.Errorf("RoleScopes(%q) = %s, want %s", role, got, want)
		}
	}
}

func TestAPIKey_IsLive(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		key  APIKey
		want bool
	}{
		"without expiry":    {APIKey{}, true},
		"before its expiry": {APIKey{ExpiresAt: now.Add(1)}, true},
		"at its expiry":     {APIKey{ExpiresAt: now}, false},
		"revoked":           {APIKey{RevokedAt: now, ExpiresAt: now.Add(time.Hour)}, false},
	} {
		if got := c.key.IsLive(now); got != c.want {
			t.Errorf("%s: IsLive = %v, want %v", name, got, c.want)
		}
	}
}

func TestAPIKey_Actor(t *testing.T) {
	for want, key := range map[Actor]APIKey{"key:k1": {ID: "k1"}, "user:anna": {ID: "k1", User: "anna"}} {
		if got := key.Actor(); got != want {
			t.Errorf("Actor() of %+v = %s, want %s", key, got, want)
		}
	}
}
