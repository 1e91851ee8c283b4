package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqlConn is the part that sql.DB and sql.Tx share.
type sqlConn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sqlite has one connection that writes, because the engine has one writer, and
// some that read beside it.
type sqlite struct {
	write sqlConn
	read  sqlConn
	pools [2]*sql.DB
	inTx  bool
}

const sqliteReaders = 4

func openSQLite(ctx context.Context, file string) (*sqlite, error) {
	if err := ownFile(file); err != nil {
		return nil, err
	}
	dsn := sqliteFile(file) + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_txlock=immediate&_time_format=sqlite"
	writer, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := writer.PingContext(ctx); err != nil {
		_ = writer.Close()
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	reader, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		_ = writer.Close()
		return nil, err
	}
	reader.SetMaxOpenConns(sqliteReaders)
	reader.SetMaxIdleConns(sqliteReaders)
	return &sqlite{write: writer, read: reader, pools: [2]*sql.DB{writer, reader}}, nil
}

// sqliteFile names a file as SQLite reads names, whatever signs are in it.
func sqliteFile(name string) string { return "file:" + (&url.URL{Path: name}).EscapedPath() }

// ownFile makes the file that nobody else may read, whatever folder it is in. SQLite
// gives its other files the mode of this one.
func ownFile(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	return f.Close()
}

func (s *sqlite) Close() {
	for _, p := range s.pools {
		_ = p.Close()
	}
}

// Reach never waits: there is one connection that writes, for everything, and on a slow
// disk a queue before it is no sign of anything.
func (s *sqlite) Reach(context.Context) error { return nil }

func (s *sqlite) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := s.write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *sqlite) Query(ctx context.Context, query string, args ...any) (rows, error) {
	conn := s.write
	if strings.HasPrefix(strings.TrimSpace(query), "select") {
		conn = s.read
	}
	rs, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{rs}, nil
}

func (s *sqlite) Batch(ctx context.Context, stmts []stmt) error {
	return s.InTx(ctx, func(tx db) error {
		for _, st := range stmts {
			if err := run(ctx, tx, st); err != nil {
				return err
			}
		}
		return nil
	})
}

func run(ctx context.Context, tx db, st stmt) error {
	if st.read != nil {
		rs, err := tx.Query(ctx, st.query, st.args...)
		if err != nil {
			return err
		}
		return st.read(rs)
	}
	n, err := tx.Exec(ctx, st.query, st.args...)
	if st.affected != nil {
		*st.affected = n
	}
	return err
}

func (s *sqlite) InTx(ctx context.Context, f func(db) error) error {
	if s.inTx {
		return f(s)
	}
	tx, err := s.pools[0].BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(&sqlite{write: tx, read: tx, pools: s.pools, inTx: true}); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *sqlite) dialect() dialect {
	const now = "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')"
	return dialect{
		name: "sqlite",
		now:  now,
		tick: time.Millisecond,
		in: func(s int) string {
			return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f+00:00', 'now', '%d seconds')", s)
		},
		after: func(s string) string {
			return "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', (" + s + ") || ' seconds')"
		},
		until: func(at string) string { return "(julianday(" + at + ") - julianday('now')) * 86400.0" },
		least: func(a, b string) string { return "coalesce(min(" + a + ", " + b + "), " + a + ", " + b + ")" },
		keyOf: func(column string) string {
			return "substr(" + column + ", 4, instr(substr(" + column + ", 4), '.') - 1)"
		},
		violates: func(err error, constraint string) bool {
			return code(err) == sqlite3.SQLITE_CONSTRAINT_CHECK && strings.Contains(err.Error(), constraint)
		},
		duplicate: func(err error) bool {
			return code(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code(err) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
		},
		orphan:   func(err error) bool { return code(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY },
		answered: func(err error) bool { return code(err) != 0 },
		away: func(err error) bool {
			switch code(err) & 0xff {
			case 0, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT,
				sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
				return true
			}
			return false
		},
		unstorable: func(err error) bool {
			return code(err) == sqlite3.SQLITE_TOOBIG || code(err) == sqlite3.SQLITE_MISMATCH
		},
	}
}

func code(err error) int {
	var se *sqlitedriver.Error
	if errors.As(err, &se) {
		return se.Code()
	}
	return 0
}

// sqlRows is sql.Rows with pgx's Close, which gives no error.
type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() }
