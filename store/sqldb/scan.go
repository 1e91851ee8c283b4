package sqldb

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Rows is the result of a query. Close must be called after the last row was read.
type Rows interface {
	// Next advances to the next row and reports whether there is one.
	Next() bool
	// Scan copies the columns of the current row into dest.
	Scan(dest ...any) error
	// Err returns the error that ended the iteration, if any.
	Err() error
	// Close ends the iteration.
	Close()
}

// A ScanFunc copies the columns of the current row into dest.
type ScanFunc func(dest ...any) error

// ScanAll calls read for each row, closes rs and returns the results. It takes the results of
// DB.Query and returns its error, if any.
func ScanAll[T any](rs Rows, err error, read func(ScanFunc) (T, error)) ([]T, error) {
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

// ScanOne is ScanAll for the first row. It returns sql.ErrNoRows if there is none.
func ScanOne[T any](rs Rows, err error, read func(ScanFunc) (T, error)) (T, error) {
	vs, err := ScanAll(rs, err, read)
	if err == nil && len(vs) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return vs[0], nil
}

// ScanInto returns a function for Statement.Read that stores what read returns in *out.
func ScanInto[T any](out *[]T, read func(ScanFunc) (T, error)) func(Rows) error {
	return func(rs Rows) (err error) {
		*out, err = ScanAll(rs, nil, read)
		return err
	}
}

// ScanValue reads a row with one column, which must not be null.
func ScanValue[T any](s ScanFunc) (v T, err error) {
	err = s(&v)
	return v, err
}

// ScanString reads a row with one string column.
func ScanString(s ScanFunc) (string, error) { return ScanValue[string](s) }

// ScanText reads a row with one column as Text does.
func ScanText(s ScanFunc) (v string, err error) {
	err = s(Text(&v))
	return v, err
}

// IsNoRows reports whether err is sql.ErrNoRows.
func IsNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// Time returns a scan destination that stores a time in *t, in UTC. Null is stored as the zero
// time. SQLite returns computed times as text, which is parsed.
func Time(t *time.Time) *TimeDest { return (*TimeDest)(t) }

// TimeDest is the scan destination that Time returns.
type TimeDest time.Time

// Scan implements sql.Scanner.
func (s *TimeDest) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = TimeDest{}
	case time.Time:
		*s = TimeDest(v.UTC())
	case string:
		t, err := time.Parse("2006-01-02 15:04:05.999999999-07:00", v)
		if err != nil {
			return err
		}
		*s = TimeDest(t.UTC())
	default:
		return fmt.Errorf("cannot scan %T into time.Time", v)
	}
	return nil
}

// Text returns a scan destination that stores text or a UUID in *s. Null is stored as "".
func Text(s *string) *TextDest { return (*TextDest)(s) }

// TextDest is the scan destination that Text returns.
type TextDest string

// Scan implements sql.Scanner.
func (s *TextDest) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = ""
	case string:
		*s = TextDest(v)
	case []byte:
		*s = TextDest(v)
	case [16]byte: // pgx passes a UUID in this form
		*s = TextDest(fmt.Sprintf("%x-%x-%x-%x-%x", v[0:4], v[4:6], v[6:8], v[8:10], v[10:]))
	default:
		return fmt.Errorf("cannot scan %T into string", v)
	}
	return nil
}

// TextOrNull returns s, or nil for "", as an argument of a statement.
func TextOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Seconds returns a scan destination that stores a number of seconds in *d. Null is stored as 0.
func Seconds(d *time.Duration) *SecondsDest { return (*SecondsDest)(d) }

// SecondsDest is the scan destination that Seconds returns.
type SecondsDest time.Duration

// Scan implements sql.Scanner.
func (s *SecondsDest) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = 0
	case float64:
		*s = SecondsDest(v * float64(time.Second))
	case int64:
		*s = SecondsDest(time.Duration(v) * time.Second)
	default:
		return fmt.Errorf("cannot scan %T into time.Duration", v)
	}
	return nil
}

// TimeOrNull returns t in UTC and microseconds, or nil for the zero time, as an argument of a
// statement.
func TimeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Microsecond)
}
