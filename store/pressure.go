package store

import (
	"context"
	"fmt"
)

// Unworked counts the messages that wait to be worked, of all tenants, but no further
// than most. The order is that of an index which holds nothing else.
func (s *Store) Unworked(ctx context.Context, most int) (int, error) {
	rs, err := s.db.Query(ctx, `
		select count(*) from (
			select 1 from messages where state = 'new' order by conversation_id, seq limit $1) m`, most)
	n, err := one(rs, err, func(sc scan) (n int, err error) { return n, sc(&n) })
	if err != nil {
		return 0, fmt.Errorf("count messages that wait: %w", err)
	}
	return n, nil
}

// Reach waits for a connection such as Take needs, and gives it back.
func (s *Store) Reach(ctx context.Context) error { return s.front.Reach(ctx) }
