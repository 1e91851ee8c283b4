package store

import (
	"context"
	"fmt"
)

// A WrongKey says that a key has the id of another one that the database knows.
type WrongKey struct {
	ID string
}

func (e *WrongKey) Error() string {
	return fmt.Sprintf("HYDRAGATE_MASTER_KEYS: the key %q is another one than the %q of this database: give it another id, or give the right key", e.ID, e.ID)
}

// meetKeys notes the keys of the ring in the database, and gives *WrongKey for one that
// is not what its id says: it would open nothing, and seal what nobody else opens.
func (s *Store) meetKeys(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select id, fingerprint from master_keys`)
	known, err := all(rs, err, func(sc scan) (k [2]string, err error) { return k, sc(&k[0], &k[1]) })
	if err != nil {
		return fmt.Errorf("read master keys met: %w", err)
	}
	met := map[string]string{}
	for _, k := range known {
		met[k[0]] = k[1]
	}
	for _, k := range s.keys.now() {
		if met[k.id] == "" {
			if met[k.id], err = s.meetKey(ctx, k); err != nil {
				return fmt.Errorf("note master key: %w", err)
			}
		}
		if met[k.id] != k.fingerprint() {
			return &WrongKey{k.id}
		}
	}
	return nil
}

// meetKey gives the fingerprint that is kept: of two at once the first stays.
func (s *Store) meetKey(ctx context.Context, k masterKey) (fingerprint string, err error) {
	_, err = s.db.Exec(ctx, `
		insert into master_keys (id, fingerprint, pseudonyms) values ($1, $2, $3)
		on conflict (id) do nothing`, k.id, k.fingerprint(), s.keys.Seal(k.derive(pseudonymLabel), bindPseudonyms(k.id)))
	if err != nil {
		return "", err
	}
	rs, err := s.db.Query(ctx, `select fingerprint from master_keys where id = $1`, k.id)
	return one(rs, err, scanString)
}
