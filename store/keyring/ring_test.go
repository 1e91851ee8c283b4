package keyring

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/gateway"
)

func mustParse(t *testing.T, keys ...string) *Ring {
	t.Helper()
	r, err := Parse(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRing_OpenBoundToRow tests that a value is decrypted only for its own row, column and tenant, by
// each ring that has its key.
func TestRing_OpenBoundToRow(t *testing.T) {
	k1, k2, k3 := GenerateKey("k1"), GenerateKey("k2"), GenerateKey("k3")
	aad := AssociatedData("tenant", "endpoints.credentials", "row")
	sealed := mustParse(t, k1).Seal([]byte("a secret"), aad)
	if strings.Contains(sealed, "secret") || sealed == mustParse(t, k1).Seal([]byte("a secret"), aad) {
		t.Fatalf("Seal() = %s, want a different value for each call", sealed)
	}
	for name, c := range map[string]struct {
		ring  *Ring
		bind  string
		stale bool
		want  error
	}{
		"same row":         {mustParse(t, k1), aad, false, nil},
		"second key":       {mustParse(t, k2, k1), aad, true, nil},
		"first key of two": {mustParse(t, k1, k2), aad, false, nil},
		"another row": {
			mustParse(t, k1), AssociatedData("tenant", "endpoints.credentials", "row2"), false,
			ErrDecrypt,
		},
		"another column": {
			mustParse(t, k1), AssociatedData("tenant", "instances.webhook_secret", "row"), false,
			ErrDecrypt,
		},
		"another tenant": {
			mustParse(t, k1), AssociatedData("tenant2", "endpoints.credentials", "row"), false,
			ErrDecrypt,
		},
		"separator moved": {
			mustParse(t, k1), AssociatedData("tenan", "t\x1fendpoints.credentials", "row"), false,
			ErrDecrypt,
		},
		"key missing":           {mustParse(t, k2, k3), aad, false, gateway.ErrNoMasterKey},
		"other key with the ID": {mustParse(t, GenerateKey("k1")), aad, false, ErrDecrypt},
	} {
		t.Run(name, func(t *testing.T) {
			plain, stale, err := c.ring.Open(sealed, c.bind)
			if !errors.Is(err, c.want) || err == nil && (string(plain) != "a secret" || stale != c.stale) || err != nil &&
				(plain != nil || !errors.Is(err, ErrDecrypt)) {
				t.Errorf("Open() = %q, %v, %v, want error %v", plain, stale, err, c.want)
			}
		})
	}
	_, _, err := mustParse(t, k2).Open(sealed, aad)
	if err == nil || !strings.Contains(err.Error(), `"k1"`) || !strings.Contains(err.Error(), "HYDRAGATE_MASTER_KEYS") {
		t.Errorf("Open() without the key = %v, want an error that names the key and the setting", err)
	}
	if errors.Is(ErrDecrypt, gateway.ErrNoMasterKey) {
		t.Error("ErrDecrypt matches ErrNoMasterKey: a changed value would be retried forever")
	}
}

// TestRing_OpenTampered changes each character and each bit of a value.
func TestRing_OpenTampered(t *testing.T) {
	keys := mustParse(t, GenerateKey("k1"))
	sealed := keys.Seal([]byte("a secret"), "row")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	values := []string{
		"", ".", "..", "v1..", "v1.k1", "v1.k1.", "v2" + sealed[2:], sealed + "A", sealed + "=",
		sealed[:len(sealed)-1], strings.ToUpper(sealed), " " + sealed, sealed + "\n",
	}
	for i := range sealed {
		for _, with := range []byte{letters[(strings.IndexByte(letters, sealed[i])+1)%64], '.', '*'} {
			if sealed[i] != with {
				values = append(values, sealed[:i]+string(with)+sealed[i+1:])
			}
		}
	}
	box, err := base64.RawURLEncoding.DecodeString(sealed[len(SealedPrefix("k1")):])
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(box) {
		box[bit/8] ^= 1 << (bit % 8)
		values = append(values, SealedPrefix("k1")+base64.RawURLEncoding.EncodeToString(box))
		box[bit/8] ^= 1 << (bit % 8)
	}
	for _, s := range values {
		if plain, _, err := keys.Open(s, "row"); !errors.Is(err, ErrDecrypt) || plain != nil {
			t.Errorf("Open(%q) = %q, %v, want ErrDecrypt", s, plain, err)
		}
	}
	if _, _, err := keys.Open(sealed, "row"); err != nil {
		t.Errorf("Open() of the unchanged value = %v", err)
	}
	t.Logf("%d changed values", len(values))
}

// TestFollow replaces the key file: values encrypted with a new key are decrypted immediately, and new
// values are encrypted with the new first key after RefreshInterval.
func TestFollow(t *testing.T) {
	k1, k2 := GenerateKey("k1"), GenerateKey("k2")
	var file atomic.Value
	file.Store(k1)
	r, err := Follow(func() (string, error) {
		if s := file.Load().(string); s != "" {
			return s, nil
		}
		return "", errors.New("cannot be read")
	})
	if err != nil {
		t.Fatal(err)
	}
	old := r.Seal([]byte("old"), "b")
	file.Store(k2 + "," + k1)
	if plain, _, err := r.Open(mustParse(t, k2).Seal([]byte("new"), "b"), "b"); err != nil || string(plain) != "new" {
		t.Errorf("Open() of a value encrypted with a new key = %q, %v", plain, err)
	}
	if got := strings.Join(r.IDs(), " "); got != "k2 k1" {
		t.Errorf("IDs() after loading = %s, want k2 k1", got)
	}
	if _, stale, err := r.Open(old, "b"); err != nil || !stale {
		t.Errorf("Open() of an old value: stale = %v, %v, want true", stale, err)
	}
	for _, broken := range []string{"", "nonsense", "k3:AAAA"} {
		file.Store(broken)
		expire(r)
		if got := strings.Join(r.IDs(), " "); got != "k2 k1" {
			t.Errorf("IDs() after loading %q = %s, want k2 k1", broken, got)
		}
	}
	file.Store(k2)
	if got := len(r.Derive("x")); got != 2 {
		t.Errorf("%d keys before RefreshInterval, want 2", got)
	}
	expire(r)
	if got := len(r.Derive("x")); got != 1 {
		t.Errorf("%d keys after removing one, want 1", got)
	}
	if _, _, err := r.Open(old, "b"); !errors.Is(err, gateway.ErrNoMasterKey) {
		t.Errorf("Open() of a value encrypted with a removed key = %v, want ErrNoMasterKey", err)
	}
}

// expire makes the keys of a ring older than RefreshInterval.
func expire(r *Ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadedAt = time.Now().Add(-RefreshInterval)
}
