// Package keyring encrypts the values that package store stores in encrypted form. A Ring holds the master
// keys; values are encrypted with AES-256-GCM under a key that HKDF-SHA256 derives from the first
// master key, and bound to the row in which they are stored. The package does no I/O, except for
// the function from which a followed ring loads its keys.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A Ring is an ordered list of master keys: the first encrypts, all can decrypt. Other secrets of
// the program are derived from the keys, each with its own label. A Ring prints as "[redacted]"
// and is safe for concurrent use.
type Ring struct {
	source func() (string, error) // nil if the keys never change

	mu       sync.Mutex
	text     string // what source returned last
	keys     []Key
	loadedAt time.Time
}

// A Key is a master key with its ID.
type Key struct {
	ID     string // stored with each encrypted value
	secret []byte
	aead   cipher.AEAD
}

var keyIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// RefreshInterval is the age at which a followed ring loads its keys again: values that are
// encrypted later than this after a change are encrypted with the new first key.
const RefreshInterval = time.Second

// Parse returns the ring for a comma-separated list of keys, each written as id:base64 of 32
// bytes. Its errors do not contain key material.
func Parse(s string) (*Ring, error) {
	keys, err := parseKeys(s)
	return &Ring{keys: keys}, err
}

// Follow returns a ring that loads its keys, in the form accepted by Parse, with load. The keys
// are loaded again when the ring is used after RefreshInterval, and immediately if a value was
// encrypted with an unknown key. If load fails or returns invalid keys, the ring keeps the keys it
// has. Follow returns an error if the first load fails.
func Follow(load func() (string, error)) (*Ring, error) {
	text, err := load()
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	return &Ring{source: load, text: text, keys: keys, loadedAt: time.Now()}, err
}

// parseKeys parses the list of keys for Parse and Follow.
func parseKeys(s string) ([]Key, error) {
	var keys []Key
	for i, item := range strings.Split(s, ",") {
		id, b64, named := strings.Cut(strings.TrimSpace(item), ":")
		if !named || !keyIDPattern.MatchString(id) { // the item may be a bare key: do not print it
			return nil, fmt.Errorf("key %d has no ID: write id:base64 (masterkey new prints one)", i+1)
		}
		key, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key %q is not 32 bytes in base64 (masterkey new prints one)", id)
		}
		for _, k := range keys {
			if k.ID == id {
				return nil, fmt.Errorf("duplicate key ID %q", id)
			}
		}
		k, err := newKey(id, key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// newKey returns the key with the given ID and the cipher derived from secret.
func newKey(id string, secret []byte) (Key, error) {
	k := Key{ID: id, secret: secret}
	block, err := aes.NewCipher(k.Derive("seal/v1"))
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// Derive returns a 32-byte secret derived from the key for the purpose named by label.
func (k Key) Derive(label string) []byte {
	d, err := hkdf.Key(sha256.New, k.secret, nil, "hydragate/"+label, 32)
	if err != nil {
		panic(err) // only possible for more than 8160 bytes
	}
	return d
}

// Fingerprint returns a value that distinguishes keys with the same ID. It does not reveal the
// key.
func (k Key) Fingerprint() string { return hex.EncodeToString(k.Derive("fingerprint/v1")[:16]) }

// GenerateKey returns a new random key in the form accepted by Parse.
func GenerateKey(id string) string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return id + ":" + base64.StdEncoding.EncodeToString(b[:])
}

// Derive returns the secret that each key derives for label, that of the first key first.
func (r *Ring) Derive(label string) [][]byte {
	var out [][]byte
	for _, k := range r.Current() {
		out = append(out, k.Derive(label))
	}
	return out
}

// DeriveFirst returns the ID of the first key and the secret that it derives for label.
func (r *Ring) DeriveFirst(label string) (id string, secret []byte) {
	k := r.Current()[0]
	return k.ID, k.Derive(label)
}

// IDs returns the IDs of the keys in order.
func (r *Ring) IDs() []string {
	var ids []string
	for _, k := range r.Current() {
		ids = append(ids, k.ID)
	}
	return ids
}

// Current returns the keys in order. A followed ring loads them first if they are older than
// RefreshInterval.
func (r *Ring) Current() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source != nil && time.Since(r.loadedAt) >= RefreshInterval {
		r.reload()
	}
	return r.keys
}

// Find returns the key with the given ID and reports whether it is the first key. A followed ring
// loads its keys again if it has none with this ID.
func (r *Ring) Find(id string) (k Key, first, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for attempt := range 2 {
		for i, k := range r.keys {
			if k.ID == id {
				return k, i == 0, true
			}
		}
		if attempt > 0 || r.source == nil {
			break
		}
		r.reload()
	}
	return Key{}, false, false
}

// reload loads the keys and keeps the present ones if that fails. The caller holds r.mu.
func (r *Ring) reload() {
	r.loadedAt = time.Now()
	text, err := r.source()
	if err != nil || text == r.text {
		return
	}
	if keys, err := parseKeys(text); err == nil {
		r.text, r.keys = text, keys
	}
}

// String returns "[redacted]".
func (*Ring) String() string { return "[redacted]" }

// GoString returns "[redacted]".
func (*Ring) GoString() string { return "[redacted]" }
