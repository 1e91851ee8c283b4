package store

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/gateway"
)

func ring(t *testing.T, keys ...string) *KeyRing {
	t.Helper()
	r, err := ParseKeyRing(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSealedValuesOpenWhereTheyBelong holds that a value opens in its own row, column
// and tenant, under any ring that has its key, and nowhere else.
func TestSealedValuesOpenWhereTheyBelong(t *testing.T) {
	k1, k2, k3 := NewMasterKey("k1"), NewMasterKey("k2"), NewMasterKey("k3")
	place := bind("tenant", "endpoints.credentials", "row")
	sealed := ring(t, k1).Seal([]byte("a secret"), place)
	if strings.Contains(sealed, "secret") || sealed == ring(t, k1).Seal([]byte("a secret"), place) {
		t.Fatalf("sealed as %s", sealed)
	}
	for name, c := range map[string]struct {
		ring  *KeyRing
		bind  string
		stale bool
		want  error
	}{
		"ItsOwn":               {ring(t, k1), place, false, nil},
		"BehindANewerKey":      {ring(t, k2, k1), place, true, nil},
		"BeforeANewerKey":      {ring(t, k1, k2), place, false, nil},
		"AnotherRow":           {ring(t, k1), bind("tenant", "endpoints.credentials", "row2"), false, ErrSealed},
		"AnotherColumn":        {ring(t, k1), bind("tenant", "instances.webhook_secret", "row"), false, ErrSealed},
		"AnotherTenant":        {ring(t, k1), bind("tenant2", "endpoints.credentials", "row"), false, ErrSealed},
		"SameTextCutElsewhere": {ring(t, k1), bind("tenan", "t\x1fendpoints.credentials", "row"), false, ErrSealed},
		"AnotherRing":          {ring(t, k2, k3), place, false, gateway.ErrNoMasterKey},
		"AnotherKeyOfTheID":    {ring(t, NewMasterKey("k1")), place, false, ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			plain, stale, err := c.ring.Open(sealed, c.bind)
			if !errors.Is(err, c.want) || err == nil && (string(plain) != "a secret" || stale != c.stale) || err != nil && (plain != nil || !errors.Is(err, ErrSealed)) {
				t.Errorf("%q, %v, %v; want %v", plain, stale, err, c.want)
			}
		})
	}
	_, _, err := ring(t, k2).Open(sealed, place)
	if err == nil || !strings.Contains(err.Error(), `"k1"`) || !strings.Contains(err.Error(), "HYDRAGATE_MASTER_KEYS") {
		t.Errorf("%v; want the key and the setting named", err)
	}
	if errors.Is(ErrSealed, gateway.ErrNoMasterKey) {
		t.Error("a value that was changed waits for a key for ever")
	}
}

// TestTamperedValuesDoNotOpen changes every sign of a value.
func TestTamperedValuesDoNotOpen(t *testing.T) {
	keys := ring(t, NewMasterKey("k1"))
	sealed := keys.Seal([]byte("a secret"), "place")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	tries := []string{"", ".", "..", "v1..", "v1.k1", "v1.k1.", "v2" + sealed[2:], sealed + "A", sealed + "=", sealed[:len(sealed)-1], strings.ToUpper(sealed), " " + sealed, sealed + "\n"}
	for i := range sealed {
		for _, with := range []byte{letters[(strings.IndexByte(letters, sealed[i])+1)%64], '.', '*'} {
			if sealed[i] != with {
				tries = append(tries, sealed[:i]+string(with)+sealed[i+1:])
			}
		}
	}
	box, err := base64.RawURLEncoding.DecodeString(sealed[len(sealedBy("k1")):])
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(box) {
		box[bit/8] ^= 1 << (bit % 8)
		tries = append(tries, sealedBy("k1")+base64.RawURLEncoding.EncodeToString(box))
		box[bit/8] ^= 1 << (bit % 8)
	}
	for _, s := range tries {
		if plain, _, err := keys.Open(s, "place"); !errors.Is(err, ErrSealed) || plain != nil {
			t.Errorf("%q opens: %q, %v", s, plain, err)
		}
	}
	if _, _, err := keys.Open(sealed, "place"); err != nil {
		t.Errorf("and unchanged: %v", err)
	}
	t.Logf("%d changed values", len(tries))
}

// TestRingFollowsItsFile holds what a gateway rests on whose key file is replaced: a
// key that it does not have it looks for at once, and it seals with the new one soon.
func TestRingFollowsItsFile(t *testing.T) {
	k1, k2 := NewMasterKey("k1"), NewMasterKey("k2")
	var file atomic.Value
	file.Store(k1)
	r, err := FollowKeyRing(func() (string, error) {
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
	if plain, _, err := r.Open(ring(t, k2).Seal([]byte("new"), "b"), "b"); err != nil || string(plain) != "new" {
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
		makeOld(r)
		if got := strings.Join(r.IDs(), " "); got != "k2 k1" {
			t.Errorf("a file that cannot be read leaves %s", got)
		}
	}
	file.Store(k2)
	if got := len(r.Derive("x")); got != 2 {
		t.Errorf("it looked again after no time: %d keys", got)
	}
	makeOld(r)
	if got := len(r.Derive("x")); got != 1 {
		t.Errorf("a key that was taken out is still one of %d", got)
	}
	if _, _, err := r.Open(old, "b"); !errors.Is(err, gateway.ErrNoMasterKey) {
		t.Errorf("a value of a key that was taken out: %v", err)
	}
}

// makeOld makes a ring believe that it looked long ago.
func makeOld(r *KeyRing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Now().Add(-KeysFresh)
}
