// Package store keeps everything that must outlive a restart. It is the only
// package that writes SQL, and it writes each statement once: the same text runs on
// Postgres and on SQLite. It does not know why anything is kept.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A Store is an open database. It is safe for concurrent use.
type Store struct {
	db    db
	front db // for what hooks deliver
	d     dialect
	keys  *KeyRing
	now   func() time.Time

	conversations known
}

// IsPostgres reports whether url names a Postgres database.
func IsPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Open opens the database at url and brings its schema up to date. A postgres://
// URL is Postgres; anything else is the path of an SQLite file. Secrets are sealed
// and opened with keys: *WrongKey when one of them has the id of another key. A
// database newer than this binary gives ErrNewer.
func Open(ctx context.Context, url string, keys *KeyRing) (*Store, error) {
	if _, err := Migrate(ctx, url); err != nil {
		return nil, err
	}
	d, front, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	dl := d.dialect()
	s := &Store{db: d, front: front, d: dl, keys: keys, now: func() time.Time { return time.Now().UTC().Truncate(dl.tick) }}
	if err := s.meetKeys(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func open(ctx context.Context, url string) (d, front db, err error) {
	if !IsPostgres(url) {
		d, err = openSQLite(ctx, url)
		return d, d, err
	}
	if d, err = openPostgres(ctx, url, poolConns); err != nil {
		return nil, nil, err
	}
	if front, err = openPostgres(ctx, url, frontConns); err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, front, nil
}

// Close waits for running statements and closes the database.
func (s *Store) Close() {
	s.db.Close()
	if s.front != s.db {
		s.front.Close()
	}
}

// Engine names the engine: "postgres" or "sqlite".
func (s *Store) Engine() string { return s.d.name }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select name from tenants limit 1`)
	_, err = all(rs, err, scanString)
	return err
}

// ErrNewer says that the database was migrated by a newer binary.
var ErrNewer = errors.New("store: the database is newer than this program; start the newer version")

// newID gives a random, time-ordered id: UUID version 7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// orNew gives the id, or a new one for "".
func orNew(id string) string {
	if id == "" {
		return newID()
	}
	return id
}

// bind gives the associated data that binds a sealed value to its tenant, row and
// column.
func bind(tenant, column, row string) string {
	return fmt.Sprintf("%s\x1f%s\x1f%s", tenant, column, row)
}
