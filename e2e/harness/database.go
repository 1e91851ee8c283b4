package harness

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"hydragate/store/sqldb"
)

func TestPostgresURL(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_POSTGRES names no server: run make test, or set it to a postgres:// URL of a superuser")
	}
	return server
}

// CreateDatabase makes a database on server that ends with the test.
func CreateDatabase(t *testing.T, server string) string {
	t.Helper()
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "p_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.ExecContext(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
		_ = admin.Close()
	})
	u := mustParseURL(t, server)
	u.Path = "/" + name
	return u.String()
}

func mustParseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func OpenDatabase(t *testing.T, database string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if !sqldb.IsPostgres(database) {
		driver, database = "sqlite", "file:"+database+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, database)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// The drivers are those of the store.
func openDB(dsn string) (*sql.DB, error) {
	if strings.HasPrefix(dsn, "postgres") {
		return sql.Open("pgx", dsn)
	}
	return sql.Open("sqlite", "file:"+dsn+"?_pragma=busy_timeout(10000)")
}

func ExecSQL(dsn, statement string) error {
	_, err := QueryRows(dsn, statement)
	return err
}

// QueryRows gives the rows of what a statement gives, each as text with blanks between.
func QueryRows(dsn, statement string) ([]string, error) {
	db, err := openDB(dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(context.Background(), statement)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found []string
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var row []string
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			row = append(row, fmt.Sprint(v))
		}
		found = append(found, strings.Join(row, " "))
	}
	return found, rows.Err()
}
