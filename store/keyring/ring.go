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

// A Ring holds the master keys: the first seals, all open. Every other secret of
// the program is derived from them, each under a label of its own. It prints as
// "[redacted]", and is safe for concurrent use.
type Ring struct {
	source func() (string, error) // nil: the keys never change

	mu       sync.Mutex
	text     string
	Keys     []Key
	loadedAt time.Time
}

type Key struct {
	ID     string
	secret []byte
	aead   cipher.AEAD
}

var keyIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// RefreshInterval is how old the keys of a ring that follows a file may be: what is sealed
// later than this after the file was written is sealed with its first key.
const RefreshInterval = time.Second

// Parse reads "id:base64" of 32 bytes each, comma-separated. Its errors never
// hold a key.
func Parse(s string) (*Ring, error) {
	keys, err := parseKeys(s)
	return &Ring{Keys: keys}, err
}

// Follow gives a ring of what load gives, in the form of ParseKeyRing, now and
// later: it is asked again when the ring is used and what it gave is older than
// KeysFresh, and at once for a key that the ring does not hold. What cannot be loaded
// changes nothing.
func Follow(load func() (string, error)) (*Ring, error) {
	text, err := load()
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	return &Ring{source: load, text: text, Keys: keys, loadedAt: time.Now()}, err
}

func parseKeys(s string) ([]Key, error) {
	var keys []Key
	for i, item := range strings.Split(s, ",") {
		id, b64, named := strings.Cut(strings.TrimSpace(item), ":")
		if !named || !keyIDPattern.MatchString(id) { // a key without an id is no id to be shown
			return nil, fmt.Errorf("key %d has no id: write id:base64 (masterkey new prints one)", i+1)
		}
		key, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key %q is not 32 bytes in base64 (masterkey new prints one)", id)
		}
		for _, k := range keys {
			if k.ID == id {
				return nil, fmt.Errorf("key id %q is there twice", id)
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

func newKey(id string, key []byte) (Key, error) {
	k := Key{ID: id, secret: key}
	block, err := aes.NewCipher(k.Derive("seal/v1"))
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// Derive gives the secret of 32 bytes for the purpose that label names.
func (k Key) Derive(label string) []byte {
	d, err := hkdf.Key(sha256.New, k.secret, nil, "hydragate/"+label, 32)
	if err != nil {
		panic(err) // only for lengths over 8160
	}
	return d
}

// Fingerprint tells keys apart that have the same id, and nothing of them.
func (k Key) Fingerprint() string { return hex.EncodeToString(k.Derive("fingerprint/v1")[:16]) }

// GenerateKey makes a key for ParseKeyRing.
func GenerateKey(id string) string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return id + ":" + base64.StdEncoding.EncodeToString(b[:])
}

// Derive gives one secret of 32 bytes for each master key, the sealing one first,
// for the purpose that label names.
func (r *Ring) Derive(label string) [][]byte {
	var out [][]byte
	for _, k := range r.Current() {
		out = append(out, k.Derive(label))
	}
	return out
}

// DeriveFirst gives the id of the sealing key and what Derive gives of it.
func (r *Ring) DeriveFirst(label string) (id string, secret []byte) {
	k := r.Current()[0]
	return k.ID, k.Derive(label)
}

// IDs names the keys, the sealing one first.
func (r *Ring) IDs() []string {
	var ids []string
	for _, k := range r.Current() {
		ids = append(ids, k.ID)
	}
	return ids
}

// Current gives the keys as they are now, more or less.
func (r *Ring) Current() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source != nil && time.Since(r.loadedAt) >= RefreshInterval {
		r.reload()
	}
	return r.Keys
}

// Find gives the key of an id; first says that it is the one that seals.
func (r *Ring) Find(id string) (k Key, first, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for again := range 2 {
		for i, k := range r.Keys {
			if k.ID == id {
				return k, i == 0, true
			}
		}
		if again > 0 || r.source == nil {
			break
		}
		r.reload()
	}
	return Key{}, false, false
}

func (r *Ring) reload() {
	r.loadedAt = time.Now()
	text, err := r.source()
	if err != nil || text == r.text {
		return
	}
	if keys, err := parseKeys(text); err == nil {
		r.text, r.Keys = text, keys
	}
}

// String keeps the keys out of every text.
func (*Ring) String() string { return "[redacted]" }

// GoString keeps the keys out of every text.
func (*Ring) GoString() string { return "[redacted]" }
