// Package store implements the persistence interfaces of claim, gateway, httpapi and identity on
// Postgres and SQLite. It is the only package that contains SQL statements. Each statement is
// written once and runs on both engines; package sqldb has the few expressions that differ. The
// package does not decide what is stored: see gateway for the pipeline and claim for the rules of
// codes and invites.
//
// Tenants are separated by every statement: methods take the tenant ID and return the not-found
// error of the domain for rows of other tenants. Methods that change customer data write the
// events for the audit log in the same transaction.
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
	ingestDB sqldb.DB // for incoming messages
	dialect  sqldb.Dialect
	keys     *keyring.Ring
	now      func() time.Time

	conversations seenConversations
	moves         knownMoves
}

// Open opens the database at url and applies pending migrations. A postgres:// URL is a Postgres
// database; everything else is the path of an SQLite file. Secrets are encrypted with keys. Open
// returns a *KeyMismatchError if the database knows another key with the ID of one of keys, and
// sqldb.ErrNewerSchema if the database was migrated by a newer version of the program.
func Open(ctx context.Context, url string, keys *keyring.Ring) (*Store, error) {
	if _, err := sqldb.Migrate(ctx, url); err != nil {
		return nil, err
	}
	db, ingest, err := sqldb.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	s, err := newOpened(ctx, db, ingest, keys)
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newOpened returns the store of an open database that has all migrations. The store must be
// closed even if newOpened returns an error.
func newOpened(ctx context.Context, db, ingest sqldb.DB, keys *keyring.Ring) (*Store, error) {
	dialect := db.Dialect()
	now := func() time.Time { return time.Now().UTC().Truncate(dialect.ClockResolution) }
	s := &Store{db: db, ingestDB: ingest, dialect: dialect, keys: keys, now: now}
	err := s.registerKeys(ctx)
	return s, err
}

// Close waits for running statements and closes the database.
func (s *Store) Close() {
	s.db.Close()
	if s.ingestDB != s.db {
		s.ingestDB.Close()
	}
}

// Engine returns the name of the engine, "postgres" or "sqlite".
func (s *Store) Engine() string { return s.dialect.Name }

// Ping returns an error if the database does not answer a query.
func (s *Store) Ping(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select name from tenants limit 1`)
	_, err = sqldb.ScanAll(rs, err, sqldb.ScanString)
	return err
}

// newID returns a random, time-ordered ID, a UUID of version 7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// orNewID returns id, or a new ID if id is empty.
func orNewID(id string) string {
	if id == "" {
		return newID()
	}
	return id
}

// stepTimeout bounds each statement of the workers, so that a database that does not answer
// releases them. The worker retries later.
const stepTimeout = 5 * time.Second

// Migrated returns an error unless all migrations have been applied. It applies none.
func (s *Store) Migrated(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select max(version_id) from goose_db_version`)
	at, err := sqldb.ScanOne(rs, err, sqldb.ScanValue[int64])
	if err == nil && at != migrations.Latest {
		err = fmt.Errorf("schema is at version %d, this program needs %d", at, migrations.Latest)
	}
	return err
}

// Probe waits until a connection for InsertMessages is available and releases it.
func (s *Store) Probe(ctx context.Context) error { return s.ingestDB.Probe(ctx) }
