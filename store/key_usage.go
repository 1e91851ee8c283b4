package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hydragate/claim"
	"hydragate/store/sqldb"
)

// KeyUsage is what hangs on one master key.
type KeyUsage struct {
	Key        string
	Available  bool           // the ring holds the key
	Primary    bool           // it is the one that seals
	Sealed     map[string]int // values sealed with it, by column
	Codes      int            // claim codes and invites whose proof hangs on it
	CodesUntil time.Time      // when the last of those proofs is of no use any more, by the database's clock
}

// Values counts the values that are sealed with the key.
func (h KeyUsage) Values() (n int) {
	for _, some := range h.Sealed {
		n += some
	}
	return n
}

// IsUnused reports whether the key can be taken from the ring.
func (h KeyUsage) IsUnused() bool { return h.Values() == 0 && h.Codes == 0 }

// KeyUsage counts what hangs on each master key: those of the ring in its order, then
// those that something hangs on and that the ring does not hold.
func (s *Store) KeyUsage(ctx context.Context) ([]KeyUsage, error) {
	hs := s.newKeyUsages()
	for _, c := range sealedColumns() {
		if err := s.countEncrypted(ctx, &hs, c, ``); err != nil {
			return nil, err
		}
	}
	for _, proofs := range s.codeHashes() {
		err := s.countByKey(ctx, proofs.query, func(key string, n int, until time.Time) {
			until = until.Add(proofs.grace)
			if key == "" { // issued by an older program, with whatever was first then
				for i := range hs {
					hs[i].addCodes(n, until)
				}
				return
			}
			hs.forKey(key).addCodes(n, until)
		})
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", proofs.of, err)
		}
	}
	return hs, nil
}

// ActiveKeyUsage is Hanging of what a gateway opens all the time, and what waits to be worked or
// sent, which takes no time to count.
func (s *Store) ActiveKeyUsage(ctx context.Context) ([]KeyUsage, error) {
	hs := s.newKeyUsages()
	for _, c := range sealedColumns() {
		if c.activeWhere == "" {
			continue
		}
		if err := s.countEncrypted(ctx, &hs, c, ` and `+c.activeWhere); err != nil {
			return nil, err
		}
	}
	return hs, nil
}

// keyUsages are what hangs on each master key, in the order in which keys are named.
type keyUsages []KeyUsage

// newKeyUsages names the keys of the ring, with nothing on them yet.
func (s *Store) newKeyUsages() (hs keyUsages) {
	for i, id := range s.keys.IDs() {
		h := hs.forKey(id)
		h.Available, h.Primary = true, i == 0
	}
	return hs
}

// forKey gives what hangs on a key.
func (hs *keyUsages) forKey(key string) *KeyUsage {
	i := slices.IndexFunc(*hs, func(h KeyUsage) bool { return h.Key == key })
	if i < 0 {
		*hs = append(*hs, KeyUsage{Key: key, Sealed: map[string]int{}})
		i = len(*hs) - 1
	}
	return &(*hs)[i]
}

// countEncrypted counts the values of a column for which where holds.
func (s *Store) countEncrypted(ctx context.Context, hs *keyUsages, c sealedColumn, where string) error {
	err := s.countByKey(ctx, `
		select `+s.dialect.KeyIDExpr(c.column)+`, count(*), null from `+c.table+`
		where `+c.column+` is not null`+where+` group by 1 order by 1`, func(key string, n int, _ time.Time) {
		hs.forKey(key).Sealed[c.name()] = n
	})
	if err != nil {
		return fmt.Errorf("count what is sealed in %s: %w", c.name(), err)
	}
	return nil
}

func (h *KeyUsage) addCodes(n int, until time.Time) {
	h.Codes += n
	if until.After(h.CodesUntil) {
		h.CodesUntil = until
	}
}

// codeHashes are the keyed hashes that cannot be made anew: how many are of use still, by
// the key they were made with, and until when.
func (s *Store) codeHashes() []struct {
	of, query string
	grace     time.Duration
} {
	return []struct {
		of, query string
		grace     time.Duration
	}{
		{"claim codes", `select coalesce(claim_key, ''), count(*), max(claim_expires_at) from identities where ` + redeemableCodeExpr(s.dialect) + ` group by 1 order by 1`, claim.CodeGracePeriod},
		{"invites", `select key_id, count(*), max(expires_at) from invites where used_msg is null and revoked_at is null and expires_at > ` + s.dialect.NowPlus(-int(claim.CodeGracePeriod/time.Second)) + ` group by 1 order by 1`, claim.CodeGracePeriod},
	}
}

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
