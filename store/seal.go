package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A KeyRing holds the master keys: the first seals, all open. Every other secret of
// the program is derived from them, each under a label of its own. It prints as
// "[redacted]".
type KeyRing struct {
	keys []masterKey
}

type masterKey struct {
	id  string
	key []byte
	gcm cipher.AEAD
}

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// ErrSealed says that a sealed value does not open: it was changed, moved to another
// row, or sealed with a key that the ring does not hold.
var ErrSealed = errors.New("store: a sealed value does not open with the master keys given")

// ParseKeyRing reads "id:base64" of 32 bytes each, comma-separated. Its errors never
// hold a key.
func ParseKeyRing(s string) (*KeyRing, error) {
	ring := &KeyRing{}
	for i, item := range strings.Split(s, ",") {
		id, b64, named := strings.Cut(strings.TrimSpace(item), ":")
		if !named || !keyID.MatchString(id) { // a key without an id is no id to be shown
			return nil, fmt.Errorf("key %d has no id: write id:base64 (masterkey new prints one)", i+1)
		}
		key, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key %q is not 32 bytes in base64 (masterkey new prints one)", id)
		}
		for _, k := range ring.keys {
			if k.id == id {
				return nil, fmt.Errorf("key id %q is there twice", id)
			}
		}
		sealing, err := hkdf.Key(sha256.New, key, nil, "hydragate/seal/v1", 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(sealing)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, masterKey{id, key, gcm})
	}
	return ring, nil
}

// NewMasterKey makes a key for ParseKeyRing.
func NewMasterKey(id string) string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return id + ":" + base64.StdEncoding.EncodeToString(b[:])
}

// Derive gives one secret of 32 bytes for each master key, the sealing one first,
// for the purpose that label names.
func (r *KeyRing) Derive(label string) [][]byte {
	var out [][]byte
	for _, k := range r.keys {
		d, err := hkdf.Key(sha256.New, k.key, nil, "hydragate/"+label, 32)
		if err != nil {
			panic(err) // only for lengths over 8160
		}
		out = append(out, d)
	}
	return out
}

// Seal encrypts plain and binds it to what bind names.
func (r *KeyRing) Seal(plain []byte, bind string) string {
	k := r.keys[0]
	return "v1." + k.id + "." + base64.RawURLEncoding.EncodeToString(k.gcm.Seal(nil, nil, plain, []byte(k.id+"\x1f"+bind)))
}

// Open decrypts what Seal made with the same bind. stale says that it was not the
// first key that sealed it.
func (r *KeyRing) Open(sealed, bind string) (plain []byte, stale bool, err error) {
	version, rest, _ := strings.Cut(sealed, ".")
	id, b64, _ := strings.Cut(rest, ".")
	if version != "v1" {
		return nil, false, ErrSealed
	}
	for i, k := range r.keys {
		if k.id != id {
			continue
		}
		box, err := base64.RawURLEncoding.DecodeString(b64)
		if err != nil {
			return nil, false, ErrSealed
		}
		plain, err := k.gcm.Open(nil, nil, box, []byte(id+"\x1f"+bind))
		if err != nil {
			return nil, false, ErrSealed
		}
		return plain, i > 0, nil
	}
	return nil, false, ErrSealed
}

// String keeps the keys out of every text.
func (*KeyRing) String() string { return "[redacted]" }

// GoString keeps the keys out of every text.
func (*KeyRing) GoString() string { return "[redacted]" }
