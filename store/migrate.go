package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that goose needs
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"hydragate/migrations"
)

// A Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: pending
}

// Migrate brings the schema of the database at url up to date and gives the steps
// it took. Several processes may do so at once: one works, the others wait. A
// database newer than this binary gives ErrNewer.
func Migrate(ctx context.Context, url string) (applied []Migration, err error) {
	err = withProvider(ctx, url, func(p *goose.Provider) error {
		if err := refuseNewer(ctx, p); err != nil {
			return err
		}
		done, err := p.Up(ctx)
		for _, r := range done {
			applied = append(applied, Migration{Version: r.Source.Version, Name: r.Source.Path, AppliedAt: time.Now().UTC()})
		}
		return err
	})
	return applied, err
}

// Migrations gives all steps that this binary knows, with when each was taken.
func Migrations(ctx context.Context, url string) (ms []Migration, err error) {
	err = withProvider(ctx, url, func(p *goose.Provider) error {
		if err := refuseNewer(ctx, p); err != nil {
			return err
		}
		status, err := p.Status(ctx)
		for _, s := range status {
			ms = append(ms, Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt.UTC()})
		}
		return err
	})
	return ms, err
}

// Migrated reports whether every step has been taken, without taking any.
func (s *Store) Migrated(ctx context.Context) error {
	rs, err := s.db.Query(ctx, `select max(version_id) from goose_db_version`)
	at, err := one(rs, err, func(sc scan) (v int64, err error) { return v, sc(&v) })
	if err == nil && at != migrations.Latest {
		err = fmt.Errorf("schema is at version %d, this program needs %d", at, migrations.Latest)
	}
	return err
}

func refuseNewer(ctx context.Context, p *goose.Provider) error {
	sources := p.ListSources()
	v, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if v > sources[len(sources)-1].Version {
		return ErrNewer
	}
	return nil
}

// lockBeside keeps other processes from migrating the same file: a write lock on a
// second, empty database beside it, which ends with the process however it ends.
func lockBeside(ctx context.Context, file string) (unlock func(), err error) {
	if err := ownFile(file + ".migrating"); err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", sqliteFile(file+".migrating")+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("wait for another migration of %s: %w", file, err)
	}
	return func() { _ = tx.Rollback(); _ = pool.Close() }, nil
}

func withProvider(ctx context.Context, url string, f func(*goose.Provider) error) error {
	driver, dialect, files, opts := "sqlite", goose.DialectSQLite3, migrations.SQLite(), []goose.ProviderOption{}
	dsn := sqliteFile(url) + "?_pragma=busy_timeout(10000)&_txlock=immediate"
	if IsPostgres(url) {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
		if err != nil {
			return err
		}
		driver, dialect, files, dsn = "pgx", goose.DialectPostgres, migrations.Postgres(), url
		opts = append(opts, goose.WithSessionLocker(locker))
	} else {
		unlock, err := lockBeside(ctx, url)
		if err != nil {
			return err
		}
		defer unlock()
		if err := ownFile(url); err != nil {
			return err
		}
	}
	pool, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	p, err := goose.NewProvider(dialect, pool, files, opts...)
	if err != nil {
		return err
	}
	if err := f(p); err != nil && !errors.Is(err, ErrNewer) {
		return fmt.Errorf("migrate: %w", err)
	} else if err != nil {
		return err
	}
	return nil
}
