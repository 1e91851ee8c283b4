package sqldb

import (
	"context"
	"errors"
	"fmt"
)

// errLogInUse is returned by Scrub if another connection still reads from the write-ahead log.
var errLogInUse = errors.New("the write-ahead log is in use")

// rewriting is the user_version of a database whose file is being rewritten. Otherwise, the
// user_version is the day of the last complete rewriting, as a Julian day number, or 0.
const rewriting = -1

// Scrub rewrites the file because secure_delete leaves copies of rows that were moved within the
// file to keep it balanced, and what was deleted before it was turned on.
func (s *sqlite) Scrub(ctx context.Context, maxBytes int64) error {
	s.scrubbing.Lock()
	defer s.scrubbing.Unlock()
	var version, day, size int64
	rs, err := s.Query(ctx, `
		select user_version, cast(julianday('now') as integer), page_count * page_size
		from pragma_user_version, pragma_page_count, pragma_page_size`)
	_, err = ScanOne(rs, err, func(sc ScanFunc) (struct{}, error) { return struct{}{}, sc(&version, &day, &size) })
	if err != nil {
		return fmt.Errorf("scrub database: %w", err)
	}
	if version != day && size <= maxBytes {
		if err := s.rewrite(ctx, day); err != nil {
			return fmt.Errorf("rewrite database: %w", err)
		}
	}
	return s.emptyLog(ctx)
}

// rewrite copies all rows to a new, temporary file and back. If another rewriting is requested
// before it has finished, day is not stored.
func (s *sqlite) rewrite(ctx context.Context, day int64) error {
	for _, query := range []string{fmt.Sprintf("pragma user_version = %d", rewriting), "vacuum"} {
		if _, err := s.write.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	return s.InTx(ctx, func(tx DB) error {
		rs, err := tx.Query(ctx, `select user_version from pragma_user_version`)
		version, err := ScanOne(rs, err, ScanValue[int64])
		if err != nil || version != rewriting {
			return err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("pragma user_version = %d", day))
		return err
	})
}

// emptyLog copies the write-ahead log to the database file and truncates it.
func (s *sqlite) emptyLog(ctx context.Context) error {
	rs, err := s.write.QueryContext(ctx, `pragma wal_checkpoint(truncate)`)
	if err != nil {
		return fmt.Errorf("empty write-ahead log: %w", err)
	}
	defer func() { _ = rs.Close() }()
	var busy, frames, copied int
	if rs.Next() {
		err = rs.Scan(&busy, &frames, &copied)
	}
	if err = errors.Join(err, rs.Err()); err == nil && busy != 0 {
		err = errLogInUse
	}
	if err != nil {
		return fmt.Errorf("empty write-ahead log: %w", err)
	}
	return nil
}
