// Package store keeps everything that must outlive a restart. It is the only
// package that writes SQL, and it writes each statement once: the same text runs on
// Postgres and on SQLite. It does not know why anything is kept.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"hydragate/migrations"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// A Store is an open database. It is safe for concurrent use.
type Store struct {
	db       sqldb.DB
	ingestDB sqldb.DB // for what hooks deliver
	dialect  sqldb.Dialect
	keys     *keyring.Ring
	now      func() time.Time

	conversations seenConversations
}

// Open opens the database at url and brings its schema up to date. A postgres://
// URL is Postgres; anything else is the path of an SQLite file. Secrets are sealed
// and opened with keys: *WrongKey when one of them has the id of another key. A
// database newer than this binary gives ErrNewer.
func Open(ctx context.Context, url string, keys *keyring.Ring) (*Store, error) {
	if _, err := sqldb.Migrate(ctx, url); err != nil {
		return nil, err
	}
	d, front, err := sqldb.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	dl := d.Dialect()
	s := &Store{db: d, ingestDB: front, dialect: dl, keys: keys, now: func() time.Time { return time.Now().UTC().Truncate(dl.ClockResolution) }}
	if err := s.registerKeys(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close waits for running statements and closes the database.
func (s *Store) Close() {
	s.db.Close()
	if s.ingestDB != s.db {
		s.ingestDB.Close()
	}
}

// Engine names the engine: "postgres" or "sqlite".
func (s *Store) Engine() string { return s.dialect.Name }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select name from tenants limit 1`)
	_, err = sqldb.ScanAll(rs, err, sqldb.ScanString)
	return err
}

// newID gives a random, time-ordered id: UUID version 7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// orNewID gives the id, or a new one for "".
func orNewID(id string) string {
	if id == "" {
		return newID()
	}
	return id
}

// stepTimeout bounds one step of work: what takes longer is tried again, and a database
// that does not answer at all holds nobody for long.
const stepTimeout = 5 * time.Second

// Migrated reports whether every step has been taken, without taking any.
func (s *Store) Migrated(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select max(version_id) from goose_db_version`)
	at, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (v int64, err error) { return v, sc(&v) })
	if err == nil && at != migrations.Latest {
		err = fmt.Errorf("schema is at version %d, this program needs %d", at, migrations.Latest)
	}
	return err
}

// Probe waits for a connection such as Take needs, and gives it back.
func (s *Store) Probe(ctx context.Context) error { return s.ingestDB.Probe(ctx) }

// retryTx runs f in a transaction, and once more when the database ended it because it
// and another waited for each other.
func (s *Store) retryTx(ctx context.Context, f func(sqldb.DB) error) (err error) {
	for range 4 {
		err = s.db.InTx(ctx, f)
		if !s.dialect.IsDeadlock(err) {
			return err
		}
	}
	return err
}
