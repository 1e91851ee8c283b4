package rediscode

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"hydragate/claim"
)

// minKeyLen is the minimum length of a secret in bytes, which is the length of the hash.
const minKeyLen = sha256.Size

// ErrNoKey is returned if a Store has no secret, or one that is too short.
var ErrNoKey = errors.New("rediscode: no key of at least 32 bytes")

// A derivedKey hashes codes. Without it the codes cannot be found, not even by trying all of them.
type derivedKey struct{ hashSecret, indexSecret []byte }

// deriveKeys returns the keys derived from each secret.
func (p *Store) deriveKeys() ([]derivedKey, error) {
	var ks []derivedKey
	if p.Keys == nil {
		return nil, ErrNoKey
	}
	for _, secret := range p.Keys() {
		if len(secret) < minKeyLen {
			return nil, ErrNoKey
		}
		ks = append(ks, derivedKey{hashSecret: secret, indexSecret: mac(secret, "claim/index/v1")})
	}
	if len(ks) == 0 {
		return nil, ErrNoKey
	}
	return ks, nil
}

// codeHash returns the hash stored in place of code. It is valid only for s, on its channel and
// instance, and for its generation.
func (k derivedKey) codeHash(s claim.Target, code string) []byte {
	return mac(
		k.hashSecret,
		"claim/v1",
		s.InstanceID,
		s.Channel,
		s.ExternalID,
		s.IdentityID,
		strconv.FormatInt(s.Gen, 10),
		code,
	)
}

// indexKey returns the key of the index entry of code in the scope of s. It does not depend on the channel,
// because people also write codes on another one.
func (k derivedKey) indexKey(s claim.Target, code string) string {
	sum := mac(k.indexSecret, scopeOf(s), code)
	return keyPrefix(s) + "code:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// codeKey returns the key of the code of an identity.
func codeKey(s claim.Target) string { return keyPrefix(s) + "claim:" + s.IdentityID }

// keyPrefix returns the beginning of all keys in the scope of s. The braces place them in one slot of a
// cluster, so that a script can change a code together with its index entry.
func keyPrefix(s claim.Target) string { return "hg:{" + scopeOf(s) + "}:" }

// scopeOf returns the scope in which the code of s can be redeemed: an instance, or a tenant.
func scopeOf(s claim.Target) string {
	if s.InstanceID == "" {
		return "tenant/" + s.TenantID
	}
	return "instance/" + s.InstanceID
}

// mac returns the HMAC-SHA256 of parts. At most one part may be chosen by an outsider; different
// lists of parts then have different inputs.
func mac(secret []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(strings.Join(parts, "\x1f")))
	return h.Sum(nil)
}
