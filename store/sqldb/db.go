package sqldb

import (
	"context"
	"strings"
	"time"
)

// DB is a database, or a transaction on one. Its methods are shaped like pgx's; the
// same statement text runs on both engines, with $1 placeholders.
type DB interface {
	Exec(ctx context.Context, query string, args ...any) (affected int64, err error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)

	// Batch runs statements as one transaction, in one round trip where the engine
	// has round trips. The first error undoes them all.
	Batch(ctx context.Context, stmts []Statement) error

	// InTx runs f in a transaction, undone when f returns an error.
	InTx(ctx context.Context, f func(DB) error) error

	// Reach waits for a connection that can write, and gives it back.
	Probe(ctx context.Context) error

	Dialect() Dialect
	Close()
}

// A Statement is one statement of a batch.
type Statement struct {
	Query        string
	Args         []any
	RowsAffected *int64           // set to the rows changed, when not nil
	Read         func(Rows) error // reads the rows returned, when not nil
}

// A Dialect holds the few things in which the engines differ.
type Dialect struct {
	Name string
	// now is the database's own clock, the one clock that decides what is in time.
	Now string
	// tick is how exact that clock is. Times made here are no finer, or what is due now
	// would not be due yet.
	ClockResolution time.Duration
	// in gives the time so many seconds after now.
	NowPlus func(seconds int) string
	// after gives the time so many seconds, a parameter or an expression, after now.
	NowPlusExpr func(seconds string) string
	// until gives how many seconds a time lies in the future; negative is past.
	SecondsUntil func(at string) string
	// least gives the earlier of two times.
	Least func(a, b string) string
	// keyOf gives the id of the key that sealed the value of a column.
	KeyIDExpr func(column string) string
	// skipLocked ends a select that takes work from a queue.
	SkipLocked string
	// turn waits until every other transaction that took the turn named has ended. Empty:
	// there is one writer.
	AdvisoryLock string
	// violates reports whether err says that a named check failed.
	IsCheckViolation func(err error, constraint string) bool
	// duplicate reports whether err says that a unique key is taken.
	IsDuplicate func(err error) bool
	// orphan reports whether err says that a row referred to does not exist.
	IsForeignKeyViolation func(err error) bool
	// answered reports whether err is the database's own answer, not the lack of one.
	IsDatabaseError func(err error) bool
	// away reports whether err says that the database cannot work now, whatever it is
	// given: no answer, no room, or that it is going or coming.
	IsUnavailable func(err error) bool
	// unstorable reports whether err says that the data itself is refused, so that
	// trying again is senseless.
	IsUnstorable func(err error) bool
	// IsDeadlock reports whether the engine ended the transaction because it and another one
	// waited for each other, so that it can be run again. SQLite never does.
	IsDeadlock func(err error) bool
	// PlanPerCall returns args with what makes the engine plan a query for the values of this
	// call, where it would otherwise reuse a generic plan.
	PlanPerCall func(args []any) []any
	// AllowAuditRewrite returns the statement that lets the rest of the transaction change the
	// details of audit events, or with false, no longer lets it.
	AllowAuditRewrite func(allow bool) Statement
}

// ForUpdate ends a select whose rows are about to be removed: nothing new refers to them
// until the transaction ends. SQLite, with one writer, needs no word for it.
func (d Dialect) ForUpdate() string { return strings.TrimSuffix(d.SkipLocked, " skip locked") }

// IsPostgres reports whether url names a Postgres database.
func IsPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

func Open(ctx context.Context, url string) (d, front DB, err error) {
	if !IsPostgres(url) {
		d, err = openSQLite(ctx, url)
		return d, d, err
	}
	if d, err = openPostgres(ctx, url, maxPoolConns); err != nil {
		return nil, nil, err
	}
	if front, err = openPostgres(ctx, url, ingestPoolConns); err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, front, nil
}
