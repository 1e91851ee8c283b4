package keyring

import (
	"strings"
	"testing"
)

// A sealed value opens when it is the one that was sealed, for what it was sealed for,
// and no other does.
func FuzzRing_Open(f *testing.F) {
	ring, err := Parse(GenerateKey("k1") + "," + GenerateKey("k2"))
	if err != nil {
		f.Fatal(err)
	}
	const bound = "tenant\x1fendpoints.credentials\x1frow"
	sealed := ring.Seal([]byte("secret"), bound)
	for _, s := range []string{sealed, sealed + "A", sealed[:len(sealed)-1], sealed + "\n",
		strings.Replace(sealed, ".k1.", ".k2.", 1), strings.Replace(sealed, "v1.", "v2.", 1), "v1.k1.", "v1..", "", "\xff"} {
		f.Add(s, bound)
		f.Add(s, bound+"2")
	}
	f.Fuzz(func(t *testing.T, s, bind string) {
		plain, _, err := ring.Open(s, bind)
		if good := s == sealed && bind == bound; good != (err == nil) || good && string(plain) != "secret" {
			t.Errorf("%q for %q: %q, %v", s, bind, plain, err)
		}
	})
}

// Whatever master keys are given, they are good or it is said which is not, without a key.
func FuzzParse(f *testing.F) {
	for _, s := range []string{GenerateKey("k1"), GenerateKey("k1") + "," + GenerateKey("k2"),
		GenerateKey("k1") + "," + GenerateKey("k1"), "k1:c2hvcnRzaG9ydHNob3J0c2hvcnQ=", ":,:", "", "\x00",
		"k1:" + strings.Repeat("A", 43)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ring, err := Parse(s)
		if err == nil {
			if len(ring.IDs()) == 0 || len(ring.Derive("fuzz/v1")) != len(ring.IDs()) {
				t.Errorf("%d keys", len(ring.IDs()))
			}
			return
		}
		for part := range strings.SplitSeq(s, ",") {
			// Longer than any word of ours and any id, so not found by chance.
			if _, key, _ := strings.Cut(part, ":"); len(key) > 80 && strings.Contains(err.Error(), key) {
				t.Errorf("the key is told: %v", err)
			}
		}
	})
}
