package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// pseudonymOf takes the place of an erased value: the same for the same value of a
// tenant and channel, and telling nobody who lacks the master keys what it was.
func (s *Store) pseudonymOf(tenant, channel, value string) string {
	return pseudonym(s.pseudonymKeys()[0], tenant, channel, value)
}

// pseudonymsOf gives a value's pseudonyms under all master keys, to look it up by.
func (s *Store) pseudonymsOf(tenant, channel, value string) []string {
	var ps []string
	for _, k := range s.pseudonymKeys() {
		ps = append(ps, pseudonym(k, tenant, channel, value))
	}
	return ps
}

func (s *Store) pseudonymKeys() [][]byte { return s.keys.Derive("pseudonym/v1") }

func pseudonym(key []byte, tenant, channel, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join([]string{tenant, channel, value}, "\x1f")))
	return "erased:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
