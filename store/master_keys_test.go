package store

import (
	"errors"
	"testing"

	"hydragate/store/keyring"
)

// TestOpen_KeyMismatch: a ring with another key under a known id opens no store.
func TestOpen_KeyMismatch(t *testing.T) {
	forEachEngineWithKey(t, func(t *testing.T, h fixture, k1 string) {
		for name, c := range map[string]struct {
			keys []string
			ok   bool
		}{
			"same key":                            {[]string{k1}, true},
			"same key and a new one":              {[]string{keyring.GenerateKey("k9"), k1}, true},
			"other key with the ID":               {[]string{keyring.GenerateKey("k1")}, false},
			"other key with the ID as second key": {[]string{keyring.GenerateKey("k8"), keyring.GenerateKey("k1")}, false},
		} {
			err := h.withKeys(c.keys...).registerKeys(t.Context())
			var wrong *KeyMismatchError
			if c.ok && err != nil || !c.ok && (!errors.As(err, &wrong) || wrong.ID != "k1") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
