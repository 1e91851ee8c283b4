package store

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

// A KeyRing holds the master keys: the first seals, all open. Every other secret of
// the program is derived from them, each under a label of its own. It prints as
// "[redacted]", and is safe for concurrent use.
type KeyRing struct {
	load func() (string, error) // nil: the keys never change

	mu     sync.Mutex
	text   string
	keys   []masterKey
	looked time.Time
}

type masterKey struct {
	id  string
	key []byte
	gcm cipher.AEAD
}

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// KeysFresh is how old the keys of a ring that follows a file may be: what is sealed
// later than this after the file was written is sealed with its first key.
const KeysFresh = time.Second

// ParseKeyRing reads "id:base64" of 32 bytes each, comma-separated. Its errors never
// hold a key.
func ParseKeyRing(s string) (*KeyRing, error) {
	keys, err := parseKeys(s)
	return &KeyRing{keys: keys}, err
}

// FollowKeyRing gives a ring of what load gives, in the form of ParseKeyRing, now and
// later: it is asked again when the ring is used and what it gave is older than
// KeysFresh, and at once for a key that the ring does not hold. What cannot be loaded
// changes nothing.
func FollowKeyRing(load func() (string, error)) (*KeyRing, error) {
	text, err := load()
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	return &KeyRing{load: load, text: text, keys: keys, looked: time.Now()}, err
}

func parseKeys(s string) ([]masterKey, error) {
	var keys []masterKey
	for i, item := range strings.Split(s, ",") {
		id, b64, named := strings.Cut(strings.TrimSpace(item), ":")
		if !named || !keyID.MatchString(id) { // a key without an id is no id to be shown
			return nil, fmt.Errorf("key %d has no id: write id:base64 (masterkey new prints one)", i+1)
		}
		key, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key %q is not 32 bytes in base64 (masterkey new prints one)", id)
		}
		for _, k := range keys {
			if k.id == id {
				return nil, fmt.Errorf("key id %q is there twice", id)
			}
		}
		k, err := newMasterKey(id, key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func newMasterKey(id string, key []byte) (masterKey, error) {
	k := masterKey{id: id, key: key}
	block, err := aes.NewCipher(k.derive("seal/v1"))
	if err != nil {
		return k, err
	}
	k.gcm, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// derive gives the secret of 32 bytes for the purpose that label names.
func (k masterKey) derive(label string) []byte {
	d, err := hkdf.Key(sha256.New, k.key, nil, "hydragate/"+label, 32)
	if err != nil {
		panic(err) // only for lengths over 8160
	}
	return d
}

// fingerprint tells keys apart that have the same id, and nothing of them.
func (k masterKey) fingerprint() string { return hex.EncodeToString(k.derive("fingerprint/v1")[:16]) }

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
	for _, k := range r.now() {
		out = append(out, k.derive(label))
	}
	return out
}

// First gives the id of the sealing key and what Derive gives of it.
func (r *KeyRing) First(label string) (id string, secret []byte) {
	k := r.now()[0]
	return k.id, k.derive(label)
}

// IDs names the keys, the sealing one first.
func (r *KeyRing) IDs() []string {
	var ids []string
	for _, k := range r.now() {
		ids = append(ids, k.id)
	}
	return ids
}

// now gives the keys as they are now, more or less.
func (r *KeyRing) now() []masterKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.load != nil && time.Since(r.looked) >= KeysFresh {
		r.look()
	}
	return r.keys
}

// find gives the key of an id; first says that it is the one that seals.
func (r *KeyRing) find(id string) (k masterKey, first, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for again := range 2 {
		for i, k := range r.keys {
			if k.id == id {
				return k, i == 0, true
			}
		}
		if again > 0 || r.load == nil {
			break
		}
		r.look()
	}
	return masterKey{}, false, false
}

func (r *KeyRing) look() {
	r.looked = time.Now()
	text, err := r.load()
	if err != nil || text == r.text {
		return
	}
	if keys, err := parseKeys(text); err == nil {
		r.text, r.keys = text, keys
	}
}

// String keeps the keys out of every text.
func (*KeyRing) String() string { return "[redacted]" }

// GoString keeps the keys out of every text.
func (*KeyRing) GoString() string { return "[redacted]" }
