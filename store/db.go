package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// db is a database, or a transaction on one. Its methods are shaped like pgx's; the
// same statement text runs on both engines, with $1 placeholders.
type db interface {
	Exec(ctx context.Context, query string, args ...any) (affected int64, err error)
	Query(ctx context.Context, query string, args ...any) (rows, error)

	// Batch runs statements as one transaction, in one round trip where the engine
	// has round trips. The first error undoes them all.
	Batch(ctx context.Context, stmts []stmt) error

	// InTx runs f in a transaction, undone when f returns an error.
	InTx(ctx context.Context, f func(db) error) error

	// Reach waits for a connection that can write, and gives it back.
	Reach(ctx context.Context) error

	dialect() dialect
	Close()
}

// A stmt is one statement of a batch.
type stmt struct {
	query    string
	args     []any
	affected *int64           // set to the rows changed, when not nil
	read     func(rows) error // reads the rows returned, when not nil
}

// A dialect holds the few things in which the engines differ.
type dialect struct {
	name string
	// now is the database's own clock, the one clock that decides what is in time.
	now string
	// tick is how exact that clock is. Times made here are no finer, or what is due now
	// would not be due yet.
	tick time.Duration
	// in gives the time so many seconds after now.
	in func(seconds int) string
	// after gives the time so many seconds, a parameter or an expression, after now.
	after func(seconds string) string
	// until gives how many seconds a time lies in the future; negative is past.
	until func(at string) string
	// least gives the earlier of two times.
	least func(a, b string) string
	// keyOf gives the id of the key that sealed the value of a column.
	keyOf func(column string) string
	// skipLocked ends a select that takes work from a queue.
	skipLocked string
	// turn waits until every other transaction that took the turn named has ended. Empty:
	// there is one writer.
	turn string
	// violates reports whether err says that a named check failed.
	violates func(err error, constraint string) bool
	// duplicate reports whether err says that a unique key is taken.
	duplicate func(err error) bool
	// orphan reports whether err says that a row referred to does not exist.
	orphan func(err error) bool
	// answered reports whether err is the database's own answer, not the lack of one.
	answered func(err error) bool
	// away reports whether err says that the database cannot work now, whatever it is
	// given: no answer, no room, or that it is going or coming.
	away func(err error) bool
	// unstorable reports whether err says that the data itself is refused, so that
	// trying again is senseless.
	unstorable func(err error) bool
}

type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

type scan func(dest ...any) error

// all reads every row with read.
func all[T any](rs rows, err error, read func(scan) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	var out []T
	for rs.Next() {
		v, err := read(rs.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rs.Err()
}

// one reads the only row, or gives sql.ErrNoRows.
func one[T any](rs rows, err error, read func(scan) (T, error)) (T, error) {
	vs, err := all(rs, err, read)
	if err == nil && len(vs) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return vs[0], nil
}

// into gives a stmt.read that appends what read gives to out.
func into[T any](out *[]T, read func(scan) (T, error)) func(rows) error {
	return func(rs rows) (err error) {
		*out, err = all(rs, nil, read)
		return err
	}
}

func scanString(s scan) (v string, err error) { return v, s(&v) }

// patience bounds one step of work: what takes longer is tried again, and a database
// that does not answer at all holds nobody for long.
const patience = 5 * time.Second

func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// utc reads a time that may be null, in UTC: null gives the zero time. SQLite gives
// a computed time as text.
func utc(t *time.Time) *stamp { return (*stamp)(t) }

type stamp time.Time

// Scan implements sql.Scanner.
func (s *stamp) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = stamp{}
	case time.Time:
		*s = stamp(v.UTC())
	case string:
		t, err := time.Parse("2006-01-02 15:04:05.999999999-07:00", v)
		if err != nil {
			return err
		}
		*s = stamp(t.UTC())
	default:
		return fmt.Errorf("a %T is no time", v)
	}
	return nil
}

// text reads a text that may be null: null gives "".
func text(s *string) *nullText { return (*nullText)(s) }

type nullText string

// Scan implements sql.Scanner.
func (s *nullText) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = ""
	case string:
		*s = nullText(v)
	case []byte:
		*s = nullText(v)
	case [16]byte: // a uuid, as pgx gives it to scanners
		*s = nullText(fmt.Sprintf("%x-%x-%x-%x-%x", v[0:4], v[4:6], v[6:8], v[8:10], v[10:]))
	default:
		return fmt.Errorf("a %T is no text", v)
	}
	return nil
}

// orNull stores "" as null.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// age reads a number of seconds.
func age(d *time.Duration) *seconds { return (*seconds)(d) }

type seconds time.Duration

// Scan implements sql.Scanner.
func (s *seconds) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = 0
	case float64:
		*s = seconds(v * float64(time.Second))
	case int64:
		*s = seconds(time.Duration(v) * time.Second)
	default:
		return fmt.Errorf("a %T is no number of seconds", v)
	}
	return nil
}

// timeOrNull stores the zero time as null.
func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Microsecond)
}
