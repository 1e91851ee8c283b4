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

// TestRing_OpenBoundToRow holds that a value opens in its own row, column
// and tenant, under any ring that has its key, and nowhere else.
func TestRing_OpenBoundToRow(t *testing.T) {
	k1, k2, k3 := GenerateKey("k1"), GenerateKey("k2"), GenerateKey("k3")
	place := AssociatedData("tenant", "endpoints.credentials", "row")
	sealed := mustParse(t, k1).Seal([]byte("a secret"), place)
	if strings.Contains(sealed, "secret") || sealed == mustParse(t, k1).Seal([]byte("a secret"), place) {
		t.Fatalf("sealed as %s", sealed)
	}
	for name, c := range map[string]struct {
		ring  *Ring
		bind  string
		stale bool
		want  error
	}{
		"same row":         {mustParse(t, k1), place, false, nil},
		"second key":       {mustParse(t, k2, k1), place, true, nil},
		"first key of two": {mustParse(t, k1, k2), place, false, nil},
		"another row": {mustParse(t, k1), AssociatedData("tenant", "endpoints.credentials", "row2"), false,
			ErrDecrypt},
		"another column": {mustParse(t, k1), AssociatedData("tenant", "instances.webhook_secret", "row"), false,
			ErrDecrypt},
		"another tenant": {mustParse(t, k1), AssociatedData("tenant2", "endpoints.credentials", "row"), false,
			ErrDecrypt},
		"separator moved": {mustParse(t, k1), AssociatedData("tenan", "t\x1fendpoints.credentials", "row"), false,
			ErrDecrypt},
		"key missing":           {mustParse(t, k2, k3), place, false, gateway.ErrNoMasterKey},
		"other key with the ID": {mustParse(t, GenerateKey("k1")), place, false, ErrDecrypt},
	} {
		t.Run(name, func(t *testing.T) {
			plain, stale, err := c.ring.Open(sealed, c.bind)
			if !errors.Is(err, c.want) || err == nil && (string(plain) != "a secret" || stale != c.stale) || err != nil &&
				(plain != nil || !errors.Is(err, ErrDecrypt)) {
				t.Errorf("%q, %v, %v; want %v", plain, stale, err, c.want)
			}
		})
	}
	_, _, err := mustParse(t, k2).Open(sealed, place)
	if err == nil || !strings.Contains(err.Error(), `"k1"`) || !strings.Contains(err.Error(), "HYDRAGATE_MASTER_KEYS") {
		t.Errorf("%v; want the key and the setting named", err)
	}
	if errors.Is(ErrDecrypt, gateway.ErrNoMasterKey) {
		t.Error("a value that was changed waits for a key for ever")
	}
}

// TestRing_OpenTampered changes every sign of a value.
func TestRing_OpenTampered(t *testing.T) {
	keys := mustParse(t, GenerateKey("k1"))
	sealed := keys.Seal([]byte("a secret"), "place")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	tries := []string{"", ".", "..", "v1..", "v1.k1", "v1.k1.", "v2" + sealed[2:], sealed + "A", sealed + "=",
		sealed[:len(sealed)-1], strings.ToUpper(sealed), " " + sealed, sealed + "\n"}
	for i := range sealed {
		for _, with := range []byte{letters[(strings.IndexByte(letters, sealed[i])+1)%64], '.', '*'} {
			if sealed[i] != with {
				tries = append(tries, sealed[:i]+string(with)+sealed[i+1:])
			}
		}
	}
	box, err := base64.RawURLEncoding.DecodeString(sealed[len(SealedPrefix("k1")):])
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(box) {
		box[bit/8] ^= 1 << (bit % 8)
		tries = append(tries, SealedPrefix("k1")+base64.RawURLEncoding.EncodeToString(box))
		box[bit/8] ^= 1 << (bit % 8)
	}
	for _, s := range tries {
		if plain, _, err := keys.Open(s, "place"); !errors.Is(err, ErrDecrypt) || plain != nil {
			t.Errorf("%q opens: %q, %v", s, plain, err)
		}
	}
	if _, _, err := keys.Open(sealed, "place"); err != nil {
		t.Errorf("and unchanged: %v", err)
	}
	t.Logf("%d changed values", len(tries))
}

// TestFollow holds what a gateway rests on whose key file is replaced: a
// key that it does not have it looks for at once, and it seals with the new one soon.
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
		t.Errorf("a value under a new key: %q, %v", plain, err)
	}
	if got := strings.Join(r.IDs(), " "); got != "k2 k1" {
		t.Errorf("then it has %s", got)
	}
	if _, stale, err := r.Open(old, "b"); err != nil || !stale {
		t.Errorf("a value from before: %v, %v", stale, err)
	}
	for _, broken := range []string{"", "nonsense", "k3:AAAA"} {
		file.Store(broken)
		expire(r)
		if got := strings.Join(r.IDs(), " "); got != "k2 k1" {
			t.Errorf("a file that cannot be read leaves %s", got)
		}
	}
	file.Store(k2)
	if got := len(r.Derive("x")); got != 2 {
		t.Errorf("it looked again after no time: %d keys", got)
	}
	expire(r)
	if got := len(r.Derive("x")); got != 1 {
		t.Errorf("a key that was taken out is still one of %d", got)
	}
	if _, _, err := r.Open(old, "b"); !errors.Is(err, gateway.ErrNoMasterKey) {
		t.Errorf("a value of a key that was taken out: %v", err)
	}
}

// expire makes a ring believe that it looked long ago.
func expire(r *Ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadedAt = time.Now().Add(-RefreshInterval)
}
