package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hydragate/claim"
)

// Hanging is what hangs on one master key.
type Hanging struct {
	Key    string
	Here   bool           // the ring holds the key
	First  bool           // it is the one that seals
	Sealed map[string]int // values sealed with it, by column
	Codes  int            // claim codes and invites whose proof hangs on it
	Until  time.Time      // when the last of those proofs is of no use any more, by the database's clock
}

// Values counts the values that are sealed with the key.
func (h Hanging) Values() (n int) {
	for _, some := range h.Sealed {
		n += some
	}
	return n
}

// Free reports whether the key can be taken from the ring.
func (h Hanging) Free() bool { return h.Values() == 0 && h.Codes == 0 }

// Hanging counts what hangs on each master key: those of the ring in its order, then
// those that something hangs on and that the ring does not hold.
func (s *Store) Hanging(ctx context.Context) ([]Hanging, error) {
	hs := s.hangings()
	for _, c := range sealedColumns() {
		if err := s.countSealed(ctx, &hs, c, ``); err != nil {
			return nil, err
		}
	}
	for _, proofs := range s.proofs() {
		err := s.countBy(ctx, proofs.query, func(key string, n int, until time.Time) {
			until = until.Add(proofs.grace)
			if key == "" { // issued by an older program, with whatever was first then
				for i := range hs {
					hs[i].hangs(n, until)
				}
				return
			}
			hs.on(key).hangs(n, until)
		})
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", proofs.of, err)
		}
	}
	return hs, nil
}

// InUse is Hanging of what a gateway opens all the time, and what waits to be worked or
// sent, which takes no time to count.
func (s *Store) InUse(ctx context.Context) ([]Hanging, error) {
	hs := s.hangings()
	for _, c := range sealedColumns() {
		if c.inUse == "" {
			continue
		}
		if err := s.countSealed(ctx, &hs, c, ` and `+c.inUse); err != nil {
			return nil, err
		}
	}
	return hs, nil
}

// hangings are what hangs on each master key, in the order in which keys are named.
type hangings []Hanging

// hangings names the keys of the ring, with nothing on them yet.
func (s *Store) hangings() (hs hangings) {
	for i, id := range s.keys.IDs() {
		h := hs.on(id)
		h.Here, h.First = true, i == 0
	}
	return hs
}

// on gives what hangs on a key.
func (hs *hangings) on(key string) *Hanging {
	i := slices.IndexFunc(*hs, func(h Hanging) bool { return h.Key == key })
	if i < 0 {
		*hs = append(*hs, Hanging{Key: key, Sealed: map[string]int{}})
		i = len(*hs) - 1
	}
	return &(*hs)[i]
}

// countSealed counts the values of a column for which where holds.
func (s *Store) countSealed(ctx context.Context, hs *hangings, c sealedColumn, where string) error {
	err := s.countBy(ctx, `
		select `+s.d.keyOf(c.column)+`, count(*), null from `+c.table+`
		where `+c.column+` is not null`+where+` group by 1 order by 1`, func(key string, n int, _ time.Time) {
		hs.on(key).Sealed[c.name()] = n
	})
	if err != nil {
		return fmt.Errorf("count what is sealed in %s: %w", c.name(), err)
	}
	return nil
}

func (h *Hanging) hangs(n int, until time.Time) {
	h.Codes += n
	if until.After(h.Until) {
		h.Until = until
	}
}

// proofs are the keyed hashes that cannot be made anew: how many are of use still, by
// the key they were made with, and until when.
func (s *Store) proofs() []struct {
	of, query string
	grace     time.Duration
} {
	return []struct {
		of, query string
		grace     time.Duration
	}{
		{"claim codes", `select coalesce(claim_key, ''), count(*), max(claim_expires_at) from identities where ` + proofKept(s.d) + ` group by 1 order by 1`, claim.Grace},
		{"invites", `select key_id, count(*), max(expires_at) from invites where used_msg is null and revoked_at is null and expires_at > ` + s.d.in(-int(claim.Grace/time.Second)) + ` group by 1 order by 1`, claim.Grace},
	}
}

func (s *Store) countBy(ctx context.Context, query string, each func(key string, n int, until time.Time)) error {
	rs, err := s.db.Query(ctx, query)
	_, err = all(rs, err, func(sc scan) (struct{}, error) {
		var key string
		var n int
		var until time.Time
		err := sc(&key, &n, utc(&until))
		if err == nil {
			each(key, n, until)
		}
		return struct{}{}, err
	})
	return err
}
