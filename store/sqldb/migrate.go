package sqldb

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

// A Migration is one version of the schema.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: pending
}

// Migrate applies all pending migrations to the database at url and returns them. If several
// processes call it concurrently, one applies the migrations and the others wait. It returns
// ErrNewerSchema if the database was migrated by a newer version of the program.
func Migrate(ctx context.Context, url string) (applied []Migration, err error) {
	err = withProvider(ctx, url, func(p *goose.Provider) error {
		if err := checkNotNewer(ctx, p); err != nil {
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

// MigrateTo applies the migrations up to and including version. It is for tests that need a
// database as an older release left it.
func MigrateTo(ctx context.Context, url string, version int64) error {
	return withProvider(ctx, url, func(p *goose.Provider) error {
		_, err := p.UpTo(ctx, version)
		return err
	})
}

// Migrations returns all migrations that the program knows, with the time at which each was
// applied. It returns ErrNewerSchema as Migrate does.
func Migrations(ctx context.Context, url string) (ms []Migration, err error) {
	err = withProvider(ctx, url, func(p *goose.Provider) error {
		if err := checkNotNewer(ctx, p); err != nil {
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

// checkNotNewer returns ErrNewerSchema if the database has a version that p does not know.
func checkNotNewer(ctx context.Context, p *goose.Provider) error {
	sources := p.ListSources()
	v, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if v > sources[len(sources)-1].Version {
		return ErrNewerSchema
	}
	return nil
}

// lockMigration prevents other processes from migrating the same SQLite file. The lock is a write
// transaction on a second, empty database next to it; the operating system releases it if the
// process is killed.
func lockMigration(ctx context.Context, file string) (unlock func(), err error) {
	if err := createPrivateFile(file + ".migrating"); err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", sqliteURI(file+".migrating")+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("lock %s for migration: %w", file, err)
	}
	return func() { _ = tx.Rollback(); _ = pool.Close() }, nil
}

// withProvider calls f with a migration provider for the database at url. The caller's process is
// the only one that migrates until f returns.
func withProvider(ctx context.Context, url string, f func(*goose.Provider) error) error {
	driver, dialect, files, opts := "sqlite", goose.DialectSQLite3, migrations.SQLite(), []goose.ProviderOption{}
	dsn := sqliteURI(url) + "?_pragma=secure_delete(1)&_pragma=busy_timeout(10000)&_txlock=immediate"
	if IsPostgres(url) {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
		if err != nil {
			return err
		}
		driver, dialect, files, dsn = "pgx", goose.DialectPostgres, migrations.Postgres(), url
		opts = append(opts, goose.WithSessionLocker(locker))
	} else {
		unlock, err := lockMigration(ctx, url)
		if err != nil {
			return err
		}
		defer unlock()
		if err := createPrivateFile(url); err != nil {
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
	err = f(p)
	if err == nil || errors.Is(err, ErrNewerSchema) {
		return err
	}
	return fmt.Errorf("migrate: %w", err)
}

// ErrNewerSchema reports that the database was migrated by a newer version of the program.
var ErrNewerSchema = errors.New("store: the database is newer than this program; start the newer version")
