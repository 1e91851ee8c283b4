package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// pseudonymOf takes the place of an erased value: the same for the same value of a
// tenant and channel, and telling nobody who lacks the master keys what it was.
func (s *Store) pseudonymOf(tenant, channel, value string) string {
	return pseudonym(s.keys.Derive(pseudonymLabel)[0], tenant, channel, value)
}

const pseudonymLabel = "pseudonym/v1"

// pseudonymsOf gives a value's pseudonyms under all master keys that the database has
// met, to look it up by: also under those that have gone.
func (s *Store) pseudonymsOf(ctx context.Context, tenant, channel, value string) ([]string, error) {
	keys, err := s.pseudonymKeys(ctx)
	var ps []string
	for _, k := range keys {
		ps = append(ps, pseudonym(k, tenant, channel, value))
	}
	return ps, err
}

func (s *Store) pseudonymKeys(ctx context.Context) ([][]byte, error) {
	rs, err := s.db.Query(ctx, `select id, pseudonyms from master_keys order by id`)
	keys, err := all(rs, err, func(sc scan) (key []byte, err error) {
		var id, sealed string
		if err := sc(&id, &sealed); err != nil {
			return nil, err
		}
		key, _, err = s.keys.Open(sealed, bindPseudonyms(id))
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what makes pseudonyms: %w", err)
	}
	return keys, nil
}

func bindPseudonyms(key string) string { return bind("", "master_keys.pseudonyms", key) }

func pseudonym(key []byte, tenant, channel, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join([]string{tenant, channel, value}, "\x1f")))
	return "erased:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
