package store

import (
	"errors"
	"testing"

	"hydragate/store/keyring"
)

// TestOpen_KeyMismatch tests that a ring with another key under a known ID is rejected.
func TestOpen_KeyMismatch(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		for name, c := range map[string]struct {
			keys []string
			ok   bool
		}{
			"same key":                            {[]string{k1}, true},
			"same key and a new one":              {[]string{keyring.GenerateKey("k9"), k1}, true},
			"other key with the ID":               {[]string{keyring.GenerateKey("k1")}, false},
			"other key with the ID as second key": {[]string{keyring.GenerateKey("k8"), keyring.GenerateKey("k1")}, false},
		} {
			err := f.withKeys(c.keys...).registerKeys(t.Context())
			var mismatch *KeyMismatchError
			if c.ok && err != nil || !c.ok && (!errors.As(err, &mismatch) || mismatch.ID != "k1") {
				t.Errorf("registerKeys() with %s = %v", name, err)
			}
		}
	})
}
