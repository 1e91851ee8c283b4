package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Scopes lists all scopes that an API key can hold, as "<resource>:<right>".
var Scopes = []string{
	"audit:read",
	"channels:read", "channels:write",
	"claims:issue",
	"customers:read", "customers:write",
	"deliveries:read", "deliveries:write",
	"identities:grant", "identities:read", "identities:write",
	"instances:read", "instances:write",
	"keys:read", "keys:write",
	"messages:read", "messages:write",
}

// DefaultRateLimit is the number of requests per second that a key may make unless it has a limit of
// its own. MaxRateLimit is the highest limit of a key.
const (
	DefaultRateLimit = 500
	MaxRateLimit     = 10_000
)

// Roles lists the roles of members of staff and presets of API keys, whose scopes RoleScopes returns.
var Roles = []string{"admin", "staff", "viewer"}

// RoleScopes returns the scopes of a role: admin has all; staff reads everything except API keys,
// writes customers, identities and messages, replays deliveries and issues claim codes; viewer reads
// everything except API keys. It returns nil for an unknown role.
func RoleScopes(role string) []string {
	reads := slices.DeleteFunc(slices.Clone(Scopes), func(s string) bool {
		return !strings.HasSuffix(s, ":read") || s == "keys:read"
	})
	switch role {
	case "admin":
		return slices.Clone(Scopes)
	case "staff":
		return append(
			reads, "claims:issue", "customers:write", "deliveries:write", "identities:write", "messages:write",
		)
	case "viewer":
		return reads
	}
	return nil
}

// An APIKey authorizes a program or a staff member to call the API. The key itself is shown
// once; only its hash is stored.
type APIKey struct {
	ID         string
	TenantID   string
	Name       string
	Hint       string // the last four characters, which distinguish keys in a list
	Scopes     []string
	InstanceID string    // empty for all instances
	ExpiresAt  time.Time // zero if the key does not expire
	RevokedAt  time.Time // zero if not revoked
	LastUsedAt time.Time // accurate to a minute
	CreatedAt  time.Time
	RateLimit  int // requests per second, with bursts of twice that; 0 for DefaultRateLimit

	// User is the subject of the staff token that authorized the request; empty for an API key.
	User string
}

// A KeyRotation replaces an API key by a copy with another token.
type KeyRotation struct {
	TenantID string
	KeyID    string    // of the replaced key
	NewID    string    // of the copy; if it is empty, a new ID is assigned
	Hint     string    // of the copy
	Hash     string    // of the copy's token
	OldUntil time.Time // when the replaced key expires, unless it expires earlier
}

// IsLive reports whether the key may be used at now.
func (k APIKey) IsLive(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// HasScope reports whether the key holds scope.
func (k APIKey) HasScope(scope string) bool { return slices.Contains(k.Scopes, scope) }

// Actor returns the key, or the staff member, as the actor of an audit event.
func (k APIKey) Actor() Actor {
	if k.User != "" {
		return Actor("user:" + k.User)
	}
	return Actor("key:" + k.ID)
}

// NewToken returns prefix, such as "hg_live_", followed by 256 random bits in base32.
func NewToken(prefix string) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// HashToken returns the hash of token that is stored and by which the token is looked up. A fast
// hash suffices for 256 random bits.
func HashToken(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}
