package store

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOpen(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrated(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOpen_SQLiteFilesPrivate tests that only the owner can read the files of an SQLite database.
func TestOpen_SQLiteFilesPrivate(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, filepath.Join(dir, "hydragate.db"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("files = %v, %v, want the database and its log", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v, want 0600", f.Name(), info.Mode(), err)
		}
	}
}
