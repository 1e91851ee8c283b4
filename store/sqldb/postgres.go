package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgxConn is the interface that the pool and a transaction have in common.
type pgxConn interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	BeginTx(ctx context.Context) (pgx.Tx, error)
}

// postgres implements DB on a connection pool or, within a transaction, on one connection.
type postgres struct {
	conn pgxConn
	pool *pgxpool.Pool
	inTx bool
}

// maxPoolConns is the size of the pool unless the URL sets pool_max_conns. It leaves each kind of
// worker a connection while webhooks commit.
const maxPoolConns = 16

// ingestPoolConns is the size of the second pool, which only stores incoming messages: no other
// work can delay the acknowledgment of a webhook.
const ingestPoolConns = 3

// openPostgres connects to the database at url with at most conns connections, or the number that
// the URL sets.
func openPostgres(ctx context.Context, url string, conns int32) (*postgres, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	if conns == ingestPoolConns || !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = conns
	}
	for name, value := range map[string]string{
		"application_name": "hydragate",
		// All statements look up a few rows by key. A generic plan made while a table was empty
		// must not scan the table after it has grown.
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		"jit":              "off",
	} {
		if _, set := cfg.ConnConfig.RuntimeParams[name]; !set {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return &postgres{conn: poolConn{pool}, pool: pool}, nil
}

// poolConn adds BeginTx to a pool.
type poolConn struct{ *pgxpool.Pool }

func (p poolConn) BeginTx(ctx context.Context) (pgx.Tx, error) { return p.Begin(ctx) }

// txConn adds BeginTx, which creates a savepoint, to a transaction.
type txConn struct{ pgx.Tx }

func (t txConn) BeginTx(ctx context.Context) (pgx.Tx, error) { return t.Begin(ctx) }

func (p *postgres) Close() { p.pool.Close() }

func (p *postgres) Probe(ctx context.Context) error {
	c, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	c.Release()
	return nil
}

// Scrub does nothing.
func (p *postgres) Scrub(context.Context, int64) error { return nil }

// maxDeadlocks is how often a transaction is run that always ends in a deadlock.
const maxDeadlocks = 4

// retryDeadlock calls f, which runs a transaction, again if the server ended the transaction because
// of a deadlock. Within a transaction it calls f once, because the whole transaction has failed.
func (p *postgres) retryDeadlock(f func() error) (err error) {
	for range maxDeadlocks {
		if err = f(); p.inTx || !isDeadlock(err) {
			return err
		}
	}
	return err
}

func isDeadlock(err error) bool { pe := asPgError(err); return pe != nil && pe.Code == "40P01" }

func (p *postgres) Exec(ctx context.Context, query string, args ...any) (affected int64, err error) {
	err = p.retryDeadlock(func() error {
		tag, err := p.conn.Exec(ctx, query, args...)
		affected = tag.RowsAffected()
		return err
	})
	return affected, err
}

func (p *postgres) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	return p.conn.Query(ctx, query, args...) //nolint:sqlclosecheck // the caller closes the rows
}

// Batch pipelines the statements. Outside a transaction, Postgres runs everything up to the sync
// at the end as one implicit transaction.
func (p *postgres) Batch(ctx context.Context, stmts []Statement) error {
	return p.retryDeadlock(func() error { return p.conn.SendBatch(ctx, newBatch(stmts)).Close() })
}

// newBatch returns the statements as a batch, which can be sent once.
func newBatch(stmts []Statement) *pgx.Batch {
	b := &pgx.Batch{}
	for _, s := range stmts {
		q := b.Queue(s.Query, s.Args...)
		switch {
		case s.Read != nil:
			q.Query(func(rs pgx.Rows) error { return s.Read(rs) })
		case s.RowsAffected != nil:
			q.Exec(func(tag pgconn.CommandTag) error { *s.RowsAffected = tag.RowsAffected(); return nil })
		}
	}
	return b
}

func (p *postgres) InTx(ctx context.Context, f func(DB) error) error {
	return p.retryDeadlock(func() error { return p.runTx(ctx, f) })
}

// runTx runs f in one transaction.
func (p *postgres) runTx(ctx context.Context, f func(DB) error) error {
	tx, err := p.conn.BeginTx(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := f(&postgres{conn: txConn{tx}, pool: p.pool, inTx: true}); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (p *postgres) Dialect() Dialect {
	return Dialect{
		Name:            "postgres",
		Now:             "now()",
		ClockResolution: time.Microsecond,
		NowPlus:         func(s int) string { return fmt.Sprintf("now() + interval '%d seconds'", s) },
		NowPlusExpr:     func(s string) string { return "now() + cast(" + s + " as double precision) * interval '1 second'" },
		SecondsUntil:    func(at string) string { return "cast(extract(epoch from " + at + " - now()) as double precision)" },
		Least:           func(a, b string) string { return "least(" + a + ", " + b + ")" },
		KeyIDExpr:       func(column string) string { return "split_part(" + column + ", '.', 2)" },
		SkipLocked:      " for update skip locked",
		AdvisoryLock:    "select pg_advisory_xact_lock(hashtextextended($1, 0))",
		IsCheckViolation: func(err error, constraint string) bool {
			pe := asPgError(err)
			return pe != nil && pe.Code == "23514" && pe.ConstraintName == constraint
		},
		IsDuplicate:           func(err error) bool { pe := asPgError(err); return pe != nil && pe.Code == "23505" },
		IsForeignKeyViolation: func(err error) bool { pe := asPgError(err); return pe != nil && pe.Code == "23503" },
		IsDatabaseError:       func(err error) bool { return asPgError(err) != nil },
		IsUnavailable: func(err error) bool {
			pe := asPgError(err)
			if pe == nil {
				return true
			}
			for _, class := range []string{
				"08", "53", "58", // connection failure; disk, memory or connections exhausted; I/O error
				"57P", "25006", // shutting down or starting up; read-only
			} {
				if strings.HasPrefix(pe.Code, class) {
					return true
				}
			}
			return false
		},
		IsUnstorable: func(err error) bool {
			pe := asPgError(err)
			return pe != nil && (strings.HasPrefix(pe.Code, "22") || strings.HasPrefix(pe.Code, "54"))
		},
		PlanPerCall: func(args []any) []any {
			return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
		},
		AllowAuditRewrite: func(allow bool) Statement {
			value := "off"
			if allow {
				value = "on"
			}
			return Statement{Query: "select set_config('hydragate.erasing', $1, true)", Args: []any{value}}
		},
	}
}

// asPgError returns the error of the server within err, or nil.
func asPgError(err error) *pgconn.PgError {
	pe, _ := errors.AsType[*pgconn.PgError](err)
	return pe
}
