//go:build unix

package harness

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver that OpenDatabase uses

	"hydragate/store/sqldb"
)

// A DB is a connection to a gateway's database beside the gateway's own. Its methods fail the test
// if a query fails. The drivers are those of package store.
type DB struct {
	*sql.DB
	T   *testing.T
	DSN string
}

// OpenDatabase opens the Postgres database or the SQLite file of a gateway until the test ends.
func OpenDatabase(t *testing.T, dsn string) *DB {
	t.Helper()
	db, err := openDB(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return &DB{DB: db, T: t, DSN: dsn}
}

func openDB(dsn string) (*sql.DB, error) {
	if sqldb.IsPostgres(dsn) {
		return sql.Open("pgx", dsn)
	}
	return sql.Open("sqlite", "file:"+dsn+"?_pragma=busy_timeout(10000)")
}

// IsPostgres reports whether the database is a Postgres database.
func (d *DB) IsPostgres() bool { return sqldb.IsPostgres(d.DSN) }

func (d *DB) must(query string, err error) {
	d.T.Helper()
	if err != nil {
		d.T.Fatalf("%s: %v", query, err)
	}
}

// Exec runs a statement.
func (d *DB) Exec(query string, args ...any) {
	d.T.Helper()
	_, err := d.ExecContext(d.T.Context(), query, args...)
	d.must(query, err)
}

// Scan reads the first row of the result of a query.
func (d *DB) Scan(query string, args []any, into ...any) {
	d.T.Helper()
	d.must(query, d.QueryRowContext(d.T.Context(), query, args...).Scan(into...))
}

// QueryInt returns the only number in the result of a query.
func (d *DB) QueryInt(query string, args ...any) (n int) {
	d.T.Helper()
	d.Scan(query, args, &n)
	return n
}

// QueryTexts returns the rows of the result of a query, the columns separated by blanks.
func (d *DB) QueryTexts(query string, args ...any) []string {
	d.T.Helper()
	var texts []string
	d.must(query, forEachRow(d.T.Context(), d.DB, query, args, func(_ []string, values []any) {
		texts = append(texts, joinValues(values))
	}))
	return texts
}

// Tables returns the names of all tables in order.
func (d *DB) Tables() []string {
	d.T.Helper()
	return d.QueryTexts(tablesQuery(d.DSN))
}

func tablesQuery(dsn string) string {
	if sqldb.IsPostgres(dsn) {
		return `select table_name::text from information_schema.tables
			where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`
	}
	return `select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by 1`
}

// Rows returns the rows of a table as text, sorted. The times at which a key was last used and a replica
// last seen are left out.
// condition is empty or a where clause.
func (d *DB) Rows(table, condition string) []string {
	d.T.Helper()
	var rows []string
	query := "select * from " + table + " " + condition
	d.must(query, forEachRow(d.T.Context(), d.DB, query, nil, func(columns []string, values []any) {
		for i, c := range columns {
			if c == "last_used_at" || c == "seen_at" {
				values[i] = nil
			}
		}
		rows = append(rows, fmt.Sprintf("%s %v %v", table, columns, values))
	}))
	slices.Sort(rows)
	return rows
}

// AllRows returns the rows of all tables. where is empty or a condition for the tables that have a
// tenant.
func (d *DB) AllRows(where string) (rows []string) {
	d.T.Helper()
	for _, table := range d.Tables() {
		condition := ""
		if where != "" && table != "tenants" && table != "goose_db_version" {
			condition = "where " + where
		}
		rows = append(rows, d.Rows(table, condition)...)
	}
	return rows
}

// RowCounts returns the number of rows of each of the tables, or of all if none is given.
func (d *DB) RowCounts(tables ...string) string {
	d.T.Helper()
	if len(tables) == 0 {
		tables = d.Tables()
	}
	var counts []string
	for _, table := range tables {
		counts = append(counts, "select '"+table+"' as name, count(*) as n from "+table)
	}
	return strings.Join(d.QueryTexts(strings.Join(counts, " union all ")+" order by 1"), "\n")
}

// EncryptedCount returns the number of values in all columns of all tables that are encrypted with the
// master key that has the ID.
func (d *DB) EncryptedCount(key string) (n int) {
	d.T.Helper()
	columns := `select '"' || m.name || '"."' || p.name || '"' from sqlite_master m join pragma_table_info(m.name) p on 1
		where m.type = 'table'`
	if d.IsPostgres() {
		columns = `select format('%I.%I', table_name, column_name) from information_schema.columns
			where table_schema = 'public' and data_type = 'text'`
	}
	for _, column := range d.QueryTexts(columns) {
		table, name, _ := strings.Cut(column, ".")
		n += d.QueryInt("select count(*) from "+table+" where substr(cast("+name+" as text), 1, $1) = $2",
			len(key)+4, "v1."+key+".")
	}
	return n
}

// forEachRow calls f with each row of the result of a query. Byte slices are converted to strings.
func forEachRow(
	ctx context.Context, db *sql.DB, query string, args []any, f func(columns []string, values []any),
) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = string(b)
			}
		}
		f(columns, values)
	}
	return rows.Err()
}

// joinValues returns the values as text, NULL as the empty string.
func joinValues(values []any) string {
	var texts []string
	for _, v := range values {
		if v == nil {
			v = ""
		}
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, " ")
}

// ExecSQL runs a statement on a database that the test has not opened.
func ExecSQL(dsn, statement string) error {
	_, err := QueryRows(dsn, statement)
	return err
}

// QueryRows returns the rows of the result of a statement, the columns separated by blanks.
func QueryRows(dsn, statement string) (found []string, err error) {
	db, err := openDB(dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	err = forEachRow(context.Background(), db, statement, nil, func(_ []string, values []any) {
		found = append(found, joinValues(values))
	})
	return found, err
}

// DumpTables returns the rows of all tables as text.
func DumpTables(dsn string) ([]byte, error) {
	tables, err := QueryRows(dsn, tablesQuery(dsn))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, table := range tables {
		rows, err := QueryRows(dsn, "select * from "+table)
		if err != nil {
			return nil, err
		}
		all = append(append(all, strings.Join(rows, "\n")...), '\n')
	}
	return all, nil
}

// TestPostgresURL returns the URL of the Postgres server for tests.
func TestPostgresURL(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_POSTGRES is not set: run make test, or set it to the postgres:// URL of a superuser")
	}
	return server
}

// CreateDatabase creates a database on a server and drops it when the test ends.
func CreateDatabase(t *testing.T, server string) (dsn string) {
	t.Helper()
	dsn, drop, err := NewDatabase(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// NewDatabase creates a database on a server. drop removes it.
func NewDatabase(server string) (dsn string, drop func() error, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, err
	}
	name := "t_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	u.Path = "/" + name
	drop = func() error { return ExecSQL(server, "drop database "+name+" with (force)") }
	return u.String(), drop, ExecSQL(server, "create database "+name)
}

func mustParseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
