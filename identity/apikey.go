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
