package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// A KeyMismatchError says that a key has the id of another one that the database knows.
type KeyMismatchError struct {
	ID string
}

func (e *KeyMismatchError) Error() string {
	return fmt.Sprintf("HYDRAGATE_MASTER_KEYS: the key %q is another one than the %q of this database: give it another id, or give the right key", e.ID, e.ID)
}

// registerKeys notes the keys of the ring in the database, and gives *WrongKey for one that
// is not what its id says: it would open nothing, and seal what nobody else opens.
func (s *Store) registerKeys(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select id, fingerprint from master_keys`)
	known, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (k [2]string, err error) { return k, sc(&k[0], &k[1]) })
	if err != nil {
		return fmt.Errorf("read master keys met: %w", err)
	}
	met := map[string]string{}
	for _, k := range known {
		met[k[0]] = k[1]
	}
	for _, k := range s.keys.Current() {
		if met[k.ID] == "" {
			if met[k.ID], err = s.registerKey(ctx, k); err != nil {
				return fmt.Errorf("note master key: %w", err)
			}
		}
		if met[k.ID] != k.Fingerprint() {
			return &KeyMismatchError{k.ID}
		}
	}
	return nil
}

// registerKey gives the fingerprint that is kept: of two at once the first stays.
func (s *Store) registerKey(ctx context.Context, k keyring.Key) (fingerprint string, err error) {
	_, err = s.db.Exec(ctx, `
		insert into master_keys (id, fingerprint, pseudonyms) values ($1, $2, $3)
		on conflict (id) do nothing`, k.ID, k.Fingerprint(), s.keys.Seal(k.Derive(pseudonymKeyLabel), pseudonymKeyAAD(k.ID)))
	if err != nil {
		return "", err
	}
	rs, err := s.db.Query(ctx, `select fingerprint from master_keys where id = $1`, k.ID)
	return sqldb.ScanOne(rs, err, sqldb.ScanString)
}

// newPseudonym takes the place of an erased value: the same for the same value of a
// tenant and channel, and telling nobody who lacks the master keys what it was.
func (s *Store) newPseudonym(tenant, channel, value string) string {
	return pseudonym(s.keys.Derive(pseudonymKeyLabel)[0], tenant, channel, value)
}

const pseudonymKeyLabel = "pseudonym/v1"

// pseudonyms gives a value's pseudonyms under all master keys that the database has
// met, to look it up by: also under those that have gone.
func (s *Store) pseudonyms(ctx context.Context, tenant, channel, value string) ([]string, error) {
	keys, err := s.pseudonymKeys(ctx)
	var ps []string
	for _, k := range keys {
		ps = append(ps, pseudonym(k, tenant, channel, value))
	}
	return ps, err
}

func (s *Store) pseudonymKeys(ctx context.Context) ([][]byte, error) {
	rs, err := s.db.Query(ctx, `select id, pseudonyms from master_keys order by id`)
	keys, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (key []byte, err error) {
		var id, sealed string
		if err := sc(&id, &sealed); err != nil {
			return nil, err
		}
		key, _, err = s.keys.Open(sealed, pseudonymKeyAAD(id))
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what makes pseudonyms: %w", err)
	}
	return keys, nil
}

func pseudonymKeyAAD(key string) string {
	return keyring.AssociatedData("", "master_keys.pseudonyms", key)
}

func pseudonym(key []byte, tenant, channel, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join([]string{tenant, channel, value}, "\x1f")))
	return "erased:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
