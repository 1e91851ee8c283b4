package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/claim"
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

// KeyUsage counts the values that depend on one master key.
type KeyUsage struct {
	Key        string         // the ID of the key
	Available  bool           // the ring has the key
	Primary    bool           // the key encrypts new values
	Sealed     map[string]int // encrypted values by column, such as "outbox.place"
	Codes      int            // claim codes and invites that can only be checked with the key
	CodesUntil time.Time      // when the last of these codes expires, by the database clock
}

// Values returns the number of values encrypted with the key.
func (u KeyUsage) Values() (n int) {
	for _, count := range u.Sealed {
		n += count
	}
	return n
}

// IsUnused reports whether the key can be removed from the ring.
func (u KeyUsage) IsUnused() bool { return u.Values() == 0 && u.Codes == 0 }

// KeyUsage returns the usage of each master key: first the keys of the ring in order, then missing
// keys on which values still depend.
func (s *Store) KeyUsage(ctx context.Context) ([]KeyUsage, error) {
	usages := s.newKeyUsages()
	for _, c := range sealedColumns() {
		if err := s.countEncrypted(ctx, &usages, c, ``); err != nil {
			return nil, err
		}
	}
	for _, hashes := range s.codeHashes() {
		err := s.countByKey(ctx, hashes.query, func(key string, n int, until time.Time) {
			until = until.Add(hashes.grace)
			if key == "" { // issued by an older version, which did not store the key
				for i := range usages {
					addCodes(&usages[i], n, until)
				}
				return
			}
			addCodes(usages.forKey(key), n, until)
		})
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", hashes.of, err)
		}
	}
	return usages, nil
}

// ActiveKeyUsage is KeyUsage for the values that a running gateway needs: configuration, and
// messages and replies that are not yet processed. It is cheap to compute.
func (s *Store) ActiveKeyUsage(ctx context.Context) ([]KeyUsage, error) {
	usages := s.newKeyUsages()
	for _, c := range sealedColumns() {
		if c.activeWhere == "" {
			continue
		}
		if err := s.countEncrypted(ctx, &usages, c, ` and `+c.activeWhere); err != nil {
			return nil, err
		}
	}
	return usages, nil
}

// keyUsages is a list of usages in which each key occurs once.
type keyUsages []KeyUsage

// newKeyUsages returns the list for the keys of the ring, with all counts zero.
func (s *Store) newKeyUsages() (usages keyUsages) {
	for i, id := range s.keys.IDs() {
		u := usages.forKey(id)
		u.Available, u.Primary = true, i == 0
	}
	return usages
}

// forKey returns the usage of a key, which is added if it is not in the list.
func (us *keyUsages) forKey(key string) *KeyUsage {
	i := slices.IndexFunc(*us, func(u KeyUsage) bool { return u.Key == key })
	if i < 0 {
		*us = append(*us, KeyUsage{Key: key, Sealed: map[string]int{}})
		i = len(*us) - 1
	}
	return &(*us)[i]
}

// countEncrypted counts the encrypted values of a column that match where.
func (s *Store) countEncrypted(ctx context.Context, usages *keyUsages, c sealedColumn, where string) error {
	err := s.countByKey(ctx, `
		select `+s.dialect.KeyIDExpr(c.column)+`, count(*), null from `+c.table+`
		where `+c.column+` is not null`+where+` group by 1 order by 1`, func(key string, n int, _ time.Time) {
		usages.forKey(key).Sealed[c.name()] = n
	})
	if err != nil {
		return fmt.Errorf("count encrypted values in %s: %w", c.name(), err)
	}
	return nil
}

// addCodes adds n codes, of which the last expires at until, to a usage.
func addCodes(u *KeyUsage, n int, until time.Time) {
	u.Codes += n
	if until.After(u.CodesUntil) {
		u.CodesUntil = until
	}
}

// codeHashes returns the queries that count the codes whose hashes cannot be computed again with
// another key, by the key with which they were hashed and with the time of the last expiry. grace
// is added to that time.
func (s *Store) codeHashes() []struct {
	of, query string
	grace     time.Duration
} {
	return []struct {
		of, query string
		grace     time.Duration
	}{
		{"claim codes", `select coalesce(claim_key, ''), count(*), max(claim_expires_at) from identities where ` +
			redeemableCodeExpr(s.dialect) + ` group by 1 order by 1`, claim.CodeGracePeriod},
		{"invites", `select key_id, count(*), max(expires_at) from invites where used_msg is null and revoked_at is null
			and expires_at > ` + s.dialect.NowPlus(-int(claim.CodeGracePeriod/time.Second)) + ` group by 1
				order by 1`, claim.CodeGracePeriod},
	}
}

// countByKey calls each with the rows of query.
func (s *Store) countByKey(ctx context.Context, query string, each func(key string, n int, until time.Time)) error {
	rs, err := s.db.Query(ctx, query)
	_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		var key string
		var n int
		var until time.Time
		err := sc(&key, &n, sqldb.Time(&until))
		if err == nil {
			each(key, n, until)
		}
		return struct{}{}, err
	})
	return err
}
