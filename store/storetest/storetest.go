// Package storetest creates databases for tests with all migrations applied. They are copies of a
// template, so that the migrations run once for each Postgres server and once for SQLite in each
// process.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hydragate/migrations"
	"hydragate/store/sqldb"
)

// NewSQLite returns the name of a new SQLite file.
func NewSQLite(t *testing.T) string {
	t.Helper()
	content, err := sqliteTemplate()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hydragate.db")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "hydragate-template-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "hydragate.db")
	if _, err := sqldb.Migrate(context.Background(), file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

// NewPostgres returns the URL of a new database on the server at HYDRAGATE_TEST_POSTGRES, which
// make test starts. The database is dropped when the test ends.
func NewPostgres(t *testing.T) string {
	t.Helper()
	return create(t, CreateDatabase)
}

// NewEmptyPostgres is like NewPostgres, without the migrations.
func NewEmptyPostgres(t *testing.T) string {
	t.Helper()
	return create(t, func(server string) (string, func() error, error) {
		return createDatabase(server, newName(), "template0")
	})
}

func create(t *testing.T, create func(server string) (dsn string, drop func() error, err error)) string {
	t.Helper()
	server, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	dsn, drop, err := create(server)
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

func serverURL() (string, error) {
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		return "", errors.New(
			"HYDRAGATE_TEST_POSTGRES is not set: run make test, or set it to the postgres:// URL of a superuser")
	}
	return server, nil
}

// CreateDatabase creates a database on the Postgres server at a URL. drop removes it.
func CreateDatabase(server string) (dsn string, drop func() error, err error) {
	template, err := postgresTemplate(server)
	if err != nil {
		return "", nil, fmt.Errorf("create template: %w", err)
	}
	return createDatabase(server, newName(), template)
}

func createDatabase(server, name, template string) (dsn string, drop func() error, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	drop = func() error { return execute(server, "drop database "+name+" with (force)") }
	return u.String(), drop, execute(server, "create database "+name+" template "+template)
}

func newName() string { return "t_" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// templates are the templates by server that this process has found or created.
var templates struct {
	mu    sync.Mutex
	names map[string]string
}

// postgresTemplate returns the name of the template on a server. It creates the template if no
// process has done so.
func postgresTemplate(server string) (string, error) {
	templates.mu.Lock()
	defer templates.mu.Unlock()
	if name, ok := templates.names[server]; ok {
		return name, nil
	}
	name, err := templateName()
	if err != nil {
		return "", err
	}
	if err := ensureTemplate(server, name); err != nil {
		return "", err
	}
	if templates.names == nil {
		templates.names = map[string]string{}
	}
	templates.names[server] = name
	return name, nil
}

// templateName returns a name that changes with the migrations.
func templateName() (string, error) {
	sum := fnv.New64a()
	files := migrations.Postgres()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		_, _ = sum.Write(content) // never fails
		return err
	})
	return fmt.Sprintf("hydragate_template_%x", sum.Sum64()), err
}

// ensureTemplate creates the database name unless it exists. Other processes wait until it is
// complete.
func ensureTemplate(server, name string) error {
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	if _, err := admin.Exec(ctx, "select pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	var exists bool
	err = admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	incomplete := newName()
	dsn, drop, err := createDatabase(server, incomplete, "template0")
	if err != nil {
		return err
	}
	if _, err := sqldb.Migrate(ctx, dsn); err != nil {
		return errors.Join(err, drop())
	}
	return execute(server, "alter database "+incomplete+" rename to "+name)
}

// execute runs a statement that needs a database without connections. It retries for some seconds,
// because the server notices late that a connection was closed.
func execute(server, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	for {
		_, err := admin.Exec(ctx, statement)
		busy, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || busy.Code != objectInUse {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// objectInUse is the error code of Postgres for a database that has connections.
const objectInUse = "55006"
