package keyring

import (
	"strings"
	"testing"
)

// FuzzRing_Open tests that only the unchanged value is decrypted, and only with the same associated
// data.
func FuzzRing_Open(f *testing.F) {
	ring, err := Parse(GenerateKey("k1") + "," + GenerateKey("k2"))
	if err != nil {
		f.Fatal(err)
	}
	const aad = "tenant\x1fendpoints.credentials\x1frow"
	sealed := ring.Seal([]byte("secret"), aad)
	for _, s := range []string{
		sealed, sealed + "A", sealed[:len(sealed)-1], sealed + "\n",
		strings.Replace(sealed, ".k1.", ".k2.", 1), strings.Replace(sealed, "v1.", "v2.", 1), "v1.k1.", "v1..", "", "\xff",
	} {
		f.Add(s, aad)
		f.Add(s, aad+"2")
	}
	f.Fuzz(func(t *testing.T, s, bind string) {
		plain, _, err := ring.Open(s, bind)
		if good := s == sealed && bind == aad; good != (err == nil) || good && string(plain) != "secret" {
			t.Errorf("Open(%q, %q) = %q, %v", s, bind, plain, err)
		}
	})
}

// FuzzParse tests that Parse returns a usable ring or an error without key material.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		GenerateKey("k1"), GenerateKey("k1") + "," + GenerateKey("k2"),
		GenerateKey("k1") + "," + GenerateKey("k1"), "k1:c2hvcnRzaG9ydHNob3J0c2hvcnQ=", ":,:", "", "\x00",
		"k1:" + strings.Repeat("A", 43),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ring, err := Parse(s)
		if err == nil {
			if len(ring.IDs()) == 0 || len(ring.Derive("fuzz/v1")) != len(ring.IDs()) {
				t.Errorf("Parse(%q) returned %d keys", s, len(ring.IDs()))
			}
			return
		}
		for part := range strings.SplitSeq(s, ",") {
			// Longer than any word of the message and any ID, so that it does not match by chance.
			if _, key, _ := strings.Cut(part, ":"); len(key) > 80 && strings.Contains(err.Error(), key) {
				t.Errorf("Parse(%q): error contains the key: %v", s, err)
			}
		}
	})
}
