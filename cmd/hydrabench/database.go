package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

const (
	onPostgres = "postgres"
	onSQLite   = "sqlite"
)

// A database is where a gateway stores, seen from outside the gateway.
type database struct {
	engine string
	url    string // for the gateway; empty when it is embedded
	sql    *sql.DB
	about  string   // version and settings
	loud   []string // warnings

	postmaster int          // 0 when the server's processes are not to be seen from here
	drop       func() error // nil when there is nothing to drop
}

// newPostgres makes a database of its own on the server, to be dropped by close.
func newPostgres(ctx context.Context, server string) (*database, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("--postgres must be a URL such as postgres://user@127.0.0.1:5432/postgres")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		return nil, err
	}
	name := "hydrabench_" + randomHex(8)
	if _, err := admin.ExecContext(ctx, "create database "+name); err != nil {
		_ = admin.Close()
		return nil, fmt.Errorf("make a database: %w", err)
	}
	u.Path = "/" + name
	d := &database{engine: onPostgres, url: u.String(), drop: func() error {
		defer admin.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := admin.ExecContext(ctx, "drop database "+name+" with (force)")
		return err
	}}
	if d.sql, err = sql.Open("pgx", d.url); err == nil {
		err = d.look(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// look learns what the server promises about commits, and where its processes are.
func (d *database) look(ctx context.Context) error {
	values := map[string]string{}
	for _, name := range []string{"server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"} {
		var v string
		if err := d.sql.QueryRowContext(ctx, "select current_setting($1)", name).Scan(&v); err != nil {
			return fmt.Errorf("read the settings of Postgres: %w", err)
		}
		values[name] = v
	}
	d.about = fmt.Sprintf("PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s",
		values["server_version"], values["fsync"], values["synchronous_commit"], values["shared_buffers"])
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if values[name] == "off" {
			d.loud = append(d.loud, "Postgres runs with "+name+" off: it promises less than it does in production, and no number of this run counts")
		}
	}
	var backend int
	if err := d.sql.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&backend); err != nil {
		return err
	}
	if s, err := readStat(backend); err == nil && strings.HasPrefix(s.command, "postgres") {
		d.postmaster = s.parent
	}
	return nil
}

// openSQLite looks at the embedded database of a gateway that runs in dir.
func openSQLite(ctx context.Context, dir string) (*database, error) {
	file := filepath.Join(dir, "data", "hydragate.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	d := &database{engine: onSQLite, sql: db}
	var version string
	if err := db.QueryRowContext(ctx, "select sqlite_version()").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("open the embedded database: %w", err), d.close())
	}
	d.about = "SQLite " + version + ", WAL, synchronous full, in the gateway's process"
	return d, nil
}

// stored counts the messages that are in the database.
func (d *database) stored(ctx context.Context) (n int64, err error) {
	return d.count(ctx, "select count(*) from messages")
}

// waiting counts the messages that nobody has worked yet.
func (d *database) waiting(ctx context.Context) (n int64, err error) {
	return d.count(ctx, "select count(*) from messages where state = 'new'")
}

// analyze makes the planner of Postgres look at the tables. The embedded database
// does without: there, nothing is written from here.
func (d *database) analyze(ctx context.Context) error {
	if d.engine != onPostgres {
		return nil
	}
	if _, err := d.sql.ExecContext(ctx, "vacuum analyze"); err != nil {
		return fmt.Errorf("analyze the tables: %w", err)
	}
	return nil
}

func (d *database) count(ctx context.Context, query string) (n int64, err error) {
	if err := d.sql.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, fmt.Errorf("count messages: %w", err)
	}
	return n, nil
}

// time gives the processor time of the server so far, all databases together; zero
// when it is not to be known.
func (d *database) time() (time.Duration, error) {
	if d.postmaster == 0 {
		return 0, nil
	}
	return familyTime(d.postmaster)
}

func (d *database) close() error {
	var err error
	if d.sql != nil {
		err = d.sql.Close()
	}
	if d.drop != nil {
		err = errors.Join(err, d.drop())
	}
	return err
}
