package migrations

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestMigrations_SameOnBothEngines(t *testing.T) {
	names := func(f fs.FS) []string {
		files, err := fs.Glob(f, "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	postgres, sqlite := names(Postgres()), names(SQLite())
	if !slices.Equal(postgres, sqlite) {
		t.Fatalf("files for Postgres = %v, for SQLite = %v, want the same names", postgres, sqlite)
	}
	if last := postgres[len(postgres)-1]; !strings.HasPrefix(last, fmt.Sprintf("%05d_", Latest)) {
		t.Fatalf("newest migration = %s, want version %d (Latest)", last, Latest)
	}
}
