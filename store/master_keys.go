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

// A KeyMismatchError reports that a key of the ring differs from the key with the same ID that was
// used with the database before.
type KeyMismatchError struct {
	ID string
}

// Error names the key and what to do.
func (e *KeyMismatchError) Error() string {
	return fmt.Sprintf("HYDRAGATE_MASTER_KEYS: key %q differs from the key %q of this database: "+
		"use the original key, or give the new key another ID", e.ID, e.ID)
}

// registerKeys records the keys of the ring in the database. It returns a *KeyMismatchError if the
// database knows another key with the same ID, which could not decrypt the stored values.
func (s *Store) registerKeys(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select id, fingerprint from master_keys`)
	known, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (k [2]string, err error) { return k, sc(&k[0], &k[1]) })
	if err != nil {
		return fmt.Errorf("read registered master keys: %w", err)
	}
	fingerprints := map[string]string{}
	for _, k := range known {
		fingerprints[k[0]] = k[1]
	}
	for _, k := range s.keys.Current() {
		if fingerprints[k.ID] == "" {
			if fingerprints[k.ID], err = s.registerKey(ctx, k); err != nil {
				return fmt.Errorf("register master key: %w", err)
			}
		}
		if fingerprints[k.ID] != k.Fingerprint() {
			return &KeyMismatchError{k.ID}
		}
	}
	return nil
}

// registerKey records a key unless its ID is known and returns the recorded fingerprint.
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

// newPseudonym returns the replacement for an erased value. It is the same for the same value of a
// tenant and channel, and does not reveal the value without the master keys.
func (s *Store) newPseudonym(tenant, channel, value string) string {
	return pseudonym(s.keys.Derive(pseudonymKeyLabel)[0], tenant, channel, value)
}

// pseudonymKeyLabel is the label of the derived key that computes pseudonyms.
const pseudonymKeyLabel = "pseudonym/v1"

// pseudonyms returns the pseudonyms of a value under all master keys ever used with the database,
// including removed ones.
func (s *Store) pseudonyms(ctx context.Context, tenant, channel, value string) ([]string, error) {
	keys, err := s.pseudonymKeys(ctx)
	var pseudonyms []string
	for _, k := range keys {
		pseudonyms = append(pseudonyms, pseudonym(k, tenant, channel, value))
	}
	return pseudonyms, err
}

// pseudonymKeys decrypts the derived keys that compute pseudonyms.
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
		return nil, fmt.Errorf("read pseudonym keys: %w", err)
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
