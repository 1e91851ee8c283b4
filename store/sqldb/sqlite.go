package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	sqlitedriver "modernc.org/sqlite"
	"modernc.org/sqlite/lib"
)

// sqlConn is the interface that a pool and a transaction have in common.
type sqlConn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sqlite implements DB with one connection for writing, because the engine has one writer, and a
// few for reading.
type sqlite struct {
	write sqlConn
	read  sqlConn
	pools [2]*sql.DB
	inTx  bool

	scrubbing *sync.Mutex // held by Scrub; nil in a transaction
}

// sqliteReadConns is the number of connections that only read.
const sqliteReadConns = 4

// openSQLite opens the database file and creates it if it does not exist.
func openSQLite(ctx context.Context, file string) (*sqlite, error) {
	if err := createPrivateFile(file); err != nil {
		return nil, err
	}
	// With secure_delete, deleted and overwritten values are overwritten with zeros.
	dsn := sqliteURI(file) +
		"?_pragma=secure_delete(1)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=foreign_keys(1)" +
		"&_pragma=busy_timeout(5000)&_txlock=immediate&_time_format=sqlite"
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
	reader.SetMaxOpenConns(sqliteReadConns)
	reader.SetMaxIdleConns(sqliteReadConns)
	return &sqlite{
		write: writer, read: reader, pools: [2]*sql.DB{writer, reader}, scrubbing: new(sync.Mutex),
	}, nil
}

// sqliteURI returns the URI of a file, with special characters escaped.
func sqliteURI(name string) string { return "file:" + (&url.URL{Path: name}).EscapedPath() }

// createPrivateFile creates the file with mode 0600 if it does not exist. SQLite copies the mode
// to its journal files.
func createPrivateFile(name string) error {
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

// Probe returns nil without waiting: everything shares the one writing connection, and waiting for
// it on a slow disk is normal.
func (s *sqlite) Probe(context.Context) error { return nil }

func (s *sqlite) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := s.write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query uses the writing connection unless the statement is a select.
func (s *sqlite) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	conn := s.write
	if strings.HasPrefix(strings.TrimSpace(query), "select") {
		conn = s.read
	}
	rs, err := conn.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller checks the rows
	if err != nil {
		return nil, err
	}
	return sqlRows{rs}, nil
}

// Batch runs the statements one after another in a transaction.
func (s *sqlite) Batch(ctx context.Context, stmts []Statement) error {
	return s.InTx(ctx, func(tx DB) error {
		for _, st := range stmts {
			if err := runStatement(ctx, tx, st); err != nil {
				return err
			}
		}
		return nil
	})
}

func runStatement(ctx context.Context, tx DB, st Statement) error {
	if st.Read != nil {
		rs, err := tx.Query(ctx, st.Query, st.Args...)
		if err != nil {
			return err
		}
		return st.Read(rs)
	}
	n, err := tx.Exec(ctx, st.Query, st.Args...)
	if st.RowsAffected != nil {
		*st.RowsAffected = n
	}
	return err
}

// InTx runs f in a transaction. Within a transaction it calls f directly: there are no
// savepoints.
func (s *sqlite) InTx(ctx context.Context, f func(DB) error) error {
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

func (s *sqlite) Dialect() Dialect {
	const now = "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')"
	return Dialect{
		Name:            "sqlite",
		Now:             now,
		ClockResolution: time.Millisecond,
		NowPlus: func(s int) string {
			return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f+00:00', 'now', '%d seconds')", s)
		},
		NowPlusExpr: func(s string) string {
			return "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', (" + s + ") || ' seconds')"
		},
		SecondsUntil: func(at string) string { return "(julianday(" + at + ") - julianday('now')) * 86400.0" },
		Least:        func(a, b string) string { return "coalesce(min(" + a + ", " + b + "), " + a + ", " + b + ")" },
		KeyIDExpr: func(column string) string {
			return "substr(" + column + ", 4, instr(substr(" + column + ", 4), '.') - 1)"
		},
		IsCheckViolation: func(err error, constraint string) bool {
			return errorCode(err) == sqlite3.SQLITE_CONSTRAINT_CHECK && strings.Contains(err.Error(), constraint)
		},
		IsDuplicate: func(err error) bool {
			return errorCode(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE || errorCode(err) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
		},
		IsForeignKeyViolation: func(err error) bool { return errorCode(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY },
		IsDatabaseError:       func(err error) bool { return errorCode(err) != 0 },
		IsUnavailable: func(err error) bool {
			switch errorCode(err) & 0xff {
			case 0, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
				sqlite3.SQLITE_INTERRUPT,
				sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
				return true
			}
			return false
		},
		IsUnstorable: func(err error) bool {
			return errorCode(err) == sqlite3.SQLITE_TOOBIG || errorCode(err) == sqlite3.SQLITE_MISMATCH
		},
		PlanPerCall:    func(args []any) []any { return args },
		RequestRewrite: "pragma user_version = 0",
		AllowAuditRewrite: func(allow bool) Statement {
			return Statement{Query: "update audit_erasing set erasing = $1", Args: []any{allow}}
		},
	}
}

// errorCode returns the extended result code within err, or 0.
func errorCode(err error) int {
	if se, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		return se.Code()
	}
	return 0
}

// sqlRows adapts sql.Rows to Rows, whose Close returns no error.
type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() }
