package store

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// engines runs test with fresh, empty stores on each engine. Postgres is the server
// at HYDRAGATE_TEST_POSTGRES; make test starts one.
func engines(t *testing.T, test func(t *testing.T, open func(*testing.T) *Store)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *Store { return mustOpen(t, filepath.Join(t.TempDir(), "hydragate.db")) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *Store { return mustOpen(t, freshPostgres(t)) })
	})
}

func mustOpen(t *testing.T, dsn string) *Store {
	t.Helper()
	keys, err := ParseKeyRing(NewMasterKey("test"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), dsn, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// freshPostgres gives the URL of a new, empty database.
func freshPostgres(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_POSTGRES names no server: run make test, or set it to a postgres:// URL of a superuser")
	}
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(ctx) }()
	name := "t_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.Exec(ctx, "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = admin.Close(ctx) }()
		if _, err := admin.Exec(ctx, fmt.Sprintf("drop database %s with (force)", name)); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func TestOpenTwiceAndPing(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrated(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// The files of an embedded database are for their owner alone, in whatever folder.
func TestDatabaseFilesAreOwn(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, filepath.Join(dir, "hydragate.db"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v; want the database and its log", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f.Name(), info.Mode(), err)
		}
	}
}
