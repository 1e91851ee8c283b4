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

// minKeyLen is how long a key must be, in bytes: as long as the hash it keys.
const minKeyLen = sha256.Size

// ErrNoKey says that Proofs have no key, or one that is too short.
var ErrNoKey = errors.New("redisproof: no key of 32 bytes or more")

// A derivedKey makes what is kept of a code: whoever lacks it cannot tell the code, not
// even by trying all there are.
type derivedKey struct{ hashSecret, indexSecret []byte }

// deriveKeys derives from each secret the keys of both uses.
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

// codeHash is what is kept instead of the code. It holds for nobody but s, on its own
// channel and instance, and for no other generation.
func (k derivedKey) codeHash(s claim.Target, code string) []byte {
	return mac(k.hashSecret, "claim/v1", s.InstanceID, s.Channel, s.ExternalID, s.IdentityID, strconv.FormatInt(s.Gen, 10), code)
}

// indexKey names the key under which it is noted for whom a code was made.
func (k derivedKey) indexKey(scope, channel, code string) string {
	sum := mac(k.indexSecret, scope, channel, code)
	return "hg:cx:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// scopeOf says where the code of s may be typed.
func scopeOf(s claim.Target) string {
	if s.InstanceID == "" {
		return tenantScope(s.TenantID)
	}
	return instanceScope(s.InstanceID)
}

func instanceScope(id string) string { return "instance/" + id }

func tenantScope(id string) string { return "tenant/" + id }

// mac hashes parts under a key. At most one of the parts may be chosen by somebody
// outside: then no two lists of parts read the same.
func mac(secret []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(strings.Join(parts, "\x1f")))
	return h.Sum(nil)
}
