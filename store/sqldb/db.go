// Package sqldb runs the same SQL text on Postgres and on SQLite. It opens the database, runs
// statements, batches and transactions, applies the migrations, and lists in Dialect the few
// expressions in which the engines differ. It knows no tables; the statements are in package
// store.
package sqldb

import (
	"context"
	"strings"
	"time"
)

// DB is a database or a transaction on one. Statements use $1 placeholders on both engines. The
// methods follow those of pgx rather than those of database/sql.
type DB interface {
	Exec(ctx context.Context, query string, args ...any) (affected int64, err error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)

	// Batch runs the statements in one transaction, on Postgres in one round trip. The first
	// error rolls all of them back.
	Batch(ctx context.Context, stmts []Statement) error

	// InTx runs f in a transaction, which is rolled back if f returns an error. After a deadlock,
	// it runs f again in a new transaction, up to three times. Batch and Exec do the same.
	InTx(ctx context.Context, f func(DB) error) error

	// Probe waits until a connection is available and releases it. On SQLite it returns
	// immediately.
	Probe(ctx context.Context) error

	// Scrub removes the remains of deleted and overwritten rows from the files of the database. On
	// SQLite it empties the write-ahead log, and before that rewrites the database file if it has
	// not done so today or since RequestRewrite, unless the file is larger than maxBytes. It must not
	// be called in a transaction. On Postgres it does nothing: the server reuses the space.
	Scrub(ctx context.Context, maxBytes int64) error

	// Dialect returns the expressions of the engine.
	Dialect() Dialect

	// Close closes all connections.
	Close()
}

// A Statement is one statement of a batch.
type Statement struct {
	Query        string
	Args         []any
	RowsAffected *int64           // set to the number of changed rows, unless nil
	Read         func(Rows) error // called with the returned rows, unless nil
}

// A Dialect lists the expressions and checks in which the engines differ.
type Dialect struct {
	// Name is "postgres" or "sqlite".
	Name string
	// Now is the current time of the database. Deadlines are compared with this clock only.
	Now string
	// ClockResolution is the resolution of Now. Times set by the program are truncated to it;
	// otherwise a row that is due now could be due later than Now.
	ClockResolution time.Duration
	// NowPlus returns the time that many seconds after Now.
	NowPlus func(seconds int) string
	// NowPlusExpr is NowPlus for a placeholder or an expression in seconds.
	NowPlusExpr func(seconds string) string
	// SecondsUntil returns the seconds from Now until at, negative if at has passed.
	SecondsUntil func(at string) string
	// Least returns the earlier of two times.
	Least func(a, b string) string
	// KeyIDExpr returns the ID of the key that encrypted the value of a column.
	KeyIDExpr func(column string) string
	// SkipLocked ends a select that locks the selected rows and skips rows that another
	// transaction has locked. It is empty on SQLite, which has one writer.
	SkipLocked string
	// AdvisoryLock is a statement that takes the lock named $1 until the transaction ends. It
	// is empty on SQLite, which has one writer.
	AdvisoryLock string
	// IsCheckViolation reports whether err is a violation of the named check constraint.
	IsCheckViolation func(err error, constraint string) bool
	// IsDuplicate reports whether err is a violation of a unique constraint.
	IsDuplicate func(err error) bool
	// IsForeignKeyViolation reports whether err is a violation of a foreign key.
	IsForeignKeyViolation func(err error) bool
	// IsDatabaseError reports whether the database itself returned err. It is false for
	// connection errors.
	IsDatabaseError func(err error) bool
	// IsUnavailable reports whether the database cannot run any statement at the moment: it
	// does not answer, is out of space, starts up or shuts down.
	IsUnavailable func(err error) bool
	// IsUnstorable reports whether the database rejected the data itself, so that a retry
	// would fail in the same way.
	IsUnstorable func(err error) bool
	// PlanPerCall returns args with what makes the engine plan a query for the values of this
	// call, where it would otherwise reuse a generic plan.
	PlanPerCall func(args []any) []any
	// RequestRewrite is a statement that makes the next Scrub rewrite the database file. It is empty
	// on Postgres.
	RequestRewrite string
	// AllowAuditRewrite returns the statement that lets the rest of the transaction change the
	// details of audit events, or with false, no longer lets it.
	AllowAuditRewrite func(allow bool) Statement
}

// ForUpdate returns the end of a select that locks the selected rows until the transaction ends,
// for example because they are about to be deleted. It is empty on SQLite, which has one writer.
func (d Dialect) ForUpdate() string { return strings.TrimSuffix(d.SkipLocked, " skip locked") }

// IsPostgres reports whether url names a Postgres database.
func IsPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Open opens the database at url: a Postgres database for a postgres:// URL, otherwise an SQLite
// file. On Postgres, ingest is a second pool with its own connections, so that incoming messages
// are stored even when db is busy; on SQLite, ingest is db.
func Open(ctx context.Context, url string) (db, ingest DB, err error) {
	if !IsPostgres(url) {
		db, err = openSQLite(ctx, url)
		return db, db, err
	}
	if db, err = openPostgres(ctx, url, maxPoolConns); err != nil {
		return nil, nil, err
	}
	if ingest, err = openPostgres(ctx, url, ingestPoolConns); err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, ingest, nil
}
