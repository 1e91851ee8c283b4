package app

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"hydragate/identity"
)

func TestIsGuessable(t *testing.T) {
	for key, want := range map[string]bool{
		strings.Repeat("a", 32):                                  true,
		strings.Repeat("k", 200):                                 true,
		strings.Repeat("ab", 16):                                 true,
		strings.Repeat("0", 31) + "1":                            true,
		strings.Repeat("changeme", 4):                            true,
		strings.Repeat("AdminAdmin", 4):                          true,
		strings.Repeat("correct horse ", 3):                      true,
		"12345678901234567890123456789012":                       true,
		"abcdefghijklmnopqrstuvwxyz123456":                       true,
		"zyxwvutsrqponmlkjihgfedcba987654":                       true,
		"0123456789abcdef0123456789abcdef":                       true,
		"passwordpassword1234567812345678":                       true,
		strings.Repeat("é", 32):                                  true,
		"short-but-random-8Zq1xY":                                true,
		"an-admin-key-for-the-tests-0123456789abc":               false,
		"9f86d081884c7d659a2feaa0c55ad015":                       false,
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c": false,
		"tribal-orbit-walnut-quiver-magnet-fjord":                false,
	} {
		if got := isGuessable(key); got != want {
			t.Errorf("isGuessable(%q) = %v, want %v", key, got, want)
		}
	}
}

// TestIsGuessable_RandomKeys tests that no random key is rejected, whatever it is made of.
func TestIsGuessable_RandomKeys(t *testing.T) {
	decimal := func() string {
		n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(40), nil))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Repeat("7", 40-len(n.String())) + n.String()
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails
		return b
	}
	kinds := map[string]func() string{
		"hexadecimal":  func() string { return hex.EncodeToString(random(16)) },
		"base64":       func() string { return base64.StdEncoding.EncodeToString(random(24)) },
		"base32":       func() string { return rand.Text() + rand.Text()[:6] },
		"decimal":      decimal,
		"of this bot":  func() string { return identity.NewToken("hg_live_") },
		"with letters": func() string { return strings.ToUpper(hex.EncodeToString(random(24))) },
	}
	const count = 3000
	for name, generate := range kinds {
		for range count {
			if key := generate(); isGuessable(key) {
				t.Errorf("%s key %q is rejected", name, key)
			}
		}
	}
	t.Logf("%d random keys of %d kinds accepted", count*len(kinds), len(kinds))
}
