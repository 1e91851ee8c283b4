package sqldb

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

type ScanFunc func(dest ...any) error

// ScanAll reads every row with read.
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

// ScanOne reads the only row, or gives sql.ErrNoRows.
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

// ScanInto gives a stmt.read that appends what read gives to out.
func ScanInto[T any](out *[]T, read func(ScanFunc) (T, error)) func(Rows) error {
	return func(rs Rows) (err error) {
		*out, err = ScanAll(rs, nil, read)
		return err
	}
}

func ScanString(s ScanFunc) (v string, err error) { return v, s(&v) }

func IsNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// Time reads a time that may be null, in UTC: null gives the zero time. SQLite gives
// a computed time as text.
func Time(t *time.Time) *TimeDest { return (*TimeDest)(t) }

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
		return fmt.Errorf("a %T is no time", v)
	}
	return nil
}

// Text reads a text that may be null: null gives "".
func Text(s *string) *TextDest { return (*TextDest)(s) }

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
	case [16]byte: // a uuid, as pgx gives it to scanners
		*s = TextDest(fmt.Sprintf("%x-%x-%x-%x-%x", v[0:4], v[4:6], v[6:8], v[8:10], v[10:]))
	default:
		return fmt.Errorf("a %T is no text", v)
	}
	return nil
}

// TextOrNull stores "" as null.
func TextOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Seconds reads a number of seconds.
func Seconds(d *time.Duration) *SecondsDest { return (*SecondsDest)(d) }

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
		return fmt.Errorf("a %T is no number of seconds", v)
	}
	return nil
}

// TimeOrNull stores the zero time as null.
func TimeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Microsecond)
}
