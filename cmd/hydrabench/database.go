package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

const (
	enginePostgres = "postgres"
	engineSQLite   = "sqlite"
)

// A database is the database of a gateway, accessed directly.
type database struct {
	engine      string
	url         string // for the gateway; empty for the embedded database
	sql         *sql.DB
	description string   // version and settings
	warnings    []string // about the settings

	postmaster int          // process id of the server; 0 if it is not on this machine
	drop       func() error // nil if there is nothing to drop
}

// newPostgres creates a database on the server. The method close drops it.
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
		return nil, fmt.Errorf("create a database: %w", err)
	}
	u.Path = "/" + name
	d := &database{engine: enginePostgres, url: u.String(), drop: func() error {
		defer func() { _ = admin.Close() }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := admin.ExecContext(ctx, "drop database "+name+" with (force)")
		return err
	}}
	if d.sql, err = sql.Open("pgx", d.url); err == nil {
		err = d.inspect(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// inspect reads the settings of the server that concern durability, and its process id.
func (d *database) inspect(ctx context.Context) error {
	values := map[string]string{}
	for _, name := range []string{"server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"} {
		var v string
		if err := d.sql.QueryRowContext(ctx, "select current_setting($1)", name).Scan(&v); err != nil {
			return fmt.Errorf("read the settings of PostgreSQL: %w", err)
		}
		values[name] = v
	}
	d.description = fmt.Sprintf("PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s",
		values["server_version"], values["fsync"], values["synchronous_commit"], values["shared_buffers"])
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if values[name] == "off" {
			d.warnings = append(d.warnings,
				"PostgreSQL runs with "+name+" off, unlike in production: the numbers of this run are meaningless")
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

// openSQLite opens the embedded database of a gateway that runs in dir, for reading.
func openSQLite(ctx context.Context, dir string) (*database, error) {
	file := filepath.Join(dir, "data", "hydragate.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	d := &database{engine: engineSQLite, sql: db}
	var version string
	if err := db.QueryRowContext(ctx, "select sqlite_version()").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("open the embedded database: %w", err), d.close())
	}
	d.description = "SQLite " + version + ", WAL, synchronous full, embedded"
	return d, nil
}

// countStored returns the number of messages in the database.
func (d *database) countStored(ctx context.Context) (n int64, err error) {
	return d.count(ctx, "select count(*) from messages")
}

// countPending returns the number of messages that are not processed yet.
func (d *database) countPending(ctx context.Context) (n int64, err error) {
	return d.count(ctx, "select count(*) from messages where state = 'new'")
}

// analyze updates the statistics of the query planner of PostgreSQL. It does nothing for the embedded
// database, which is opened for reading only.
func (d *database) analyze(ctx context.Context) error {
	if d.engine != enginePostgres {
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

// cpuTime returns the processor time of the server so far, for all its databases. It returns zero if
// it is unknown.
func (d *database) cpuTime() (time.Duration, error) {
	if d.postmaster == 0 {
		return 0, nil
	}
	return processTreeTime(d.postmaster)
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

// measureInserts measures single inserts, each with a commit, from concurrent connections, into a
// table with the columns, checks and indexes of the table messages, which must exist.
func (d *database) measureInserts(ctx context.Context, duration time.Duration, connections int) (cell, error) {
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return cell{}, err
	}
	cfg.MaxConns = int32(connections) //nolint:gosec // a small number
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return cell{}, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `create table bare_messages (like messages including all)`); err != nil {
		return cell{}, fmt.Errorf("create the table for bare inserts: %w", err)
	}
	defer func() { _, _ = pool.Exec(context.WithoutCancel(ctx), `drop table bare_messages`) }()

	c, err := probe{database: d}.measure(ctx, duration, func(until time.Time, t *results) error {
		var wg sync.WaitGroup
		for worker := range connections {
			wg.Go(func() { insertRows(ctx, pool, until, worker, t) })
		}
		wg.Wait()
		return nil
	})
	c.Name, c.Engine = "bare single inserts", enginePostgres
	if err == nil {
		err = pool.QueryRow(ctx, `select count(*) from bare_messages`).Scan(&c.Stored)
	}
	return c, err
}

// insertRows inserts rows one after the other until the time until.
func insertRows(ctx context.Context, pool *pgxpool.Pool, until time.Time, worker int, t *results) {
	var samples []sample
	defer func() { t.addSamples(samples) }()
	const body = `{"kind":"text","provider_id":"1000001",` +
		`"sender":{"id":"700000001","name":"Steve","username":"steve0001","locale":"en"},` +
		`"place":{"id":"700000001"},"sent_at":"2026-01-01T12:00:00Z"}`
	tenant, instance := uuid.Nil, uuid.NewSHA1(uuid.Nil, []byte("instance"))
	for n := 0; time.Now().Before(until); n++ {
		sent := time.Now()
		sender := (n*64 + worker) % maxSenders
		conversation := uuid.NewSHA1(instance, []byte(strconv.Itoa(sender)))
		_, err := pool.Exec(ctx, `
			insert into bare_messages (id, tenant_id, conversation_id, instance_id, channel, key, alt_key, kind,
				sender_id, body, text, sealed)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			uuid.Must(uuid.NewV7()).String(), tenant.String(), conversation.String(), instance.String(), telegramChannel,
			fmt.Sprintf("%d:%d", worker, n), nil,
			"text", strconv.Itoa(sender), body, messageText, nil)
		if err != nil {
			t.addFailure(err)
			return
		}
		now := time.Now()
		t.acked.Add(1)
		samples = append(samples, sample{at: now, took: now.Sub(sent)})
	}
}
