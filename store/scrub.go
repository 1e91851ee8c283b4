package store

import (
	"context"
	"fmt"

	"hydragate/store/sqldb"
)

// maxScrubbedAtOnce is the size of the largest SQLite file that is rewritten while a request waits.
// Rewriting takes about a second for 64 MiB, during which nothing can be stored.
const maxScrubbedAtOnce = 64 << 20

// Scrub removes what the erasure and the purge have deleted from the files of an SQLite database.
// Without it, the values would remain readable there.
func (s *Store) Scrub(ctx context.Context) error {
	const anySize = 1 << 60
	if err := s.db.Scrub(ctx, anySize); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	return nil
}

// requestScrub makes Scrub rewrite the file after the transaction of an erasure.
func (s *Store) requestScrub(ctx context.Context, tx sqldb.DB) error {
	if s.dialect.RequestRewrite == "" {
		return nil
	}
	_, err := tx.Exec(ctx, s.dialect.RequestRewrite)
	return err
}

// scrubErased is called after an erasure. If it fails, or the file is large, the next Scrub removes
// the values.
func (s *Store) scrubErased(ctx context.Context) { _ = s.db.Scrub(ctx, maxScrubbedAtOnce) }
