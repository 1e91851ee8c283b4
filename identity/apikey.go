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

// Scopes are all rights an API key can hold, "<resource>:<right>".
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

// An APIKey lets a program or a member of staff call the API. The key itself is
// shown once; only its hash is kept.
type APIKey struct {
	ID         string
	TenantID   string
	Name       string
	Hint       string // the last four characters, to tell keys apart
	Scopes     []string
	InstanceID string    // empty: every instance
	ExpiresAt  time.Time // zero: never
	RevokedAt  time.Time // zero: live
	LastUsedAt time.Time // to the minute
	CreatedAt  time.Time

	// User is set when no key was shown but a token of staff: who that is.
	User string
}

// IsLive reports whether the key may be used at now.
func (k APIKey) IsLive(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// HasScope reports whether the key holds scope.
func (k APIKey) HasScope(scope string) bool { return slices.Contains(k.Scopes, scope) }

// Actor names the key in the audit log, or the member of staff.
func (k APIKey) Actor() Actor {
	if k.User != "" {
		return Actor("user:" + k.User)
	}
	return Actor("key:" + k.ID)
}

// NewToken makes a secret of 256 random bits after prefix, such as "hg_live_".
func NewToken(prefix string) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// HashToken gives what is kept of a token and what it is looked up by. A fast hash
// is enough for 256 random bits.
func HashToken(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}
