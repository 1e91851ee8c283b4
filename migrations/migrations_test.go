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
		ns, err := fs.Glob(f, "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	pg, lite := names(Postgres()), names(SQLite())
	if !slices.Equal(pg, lite) {
		t.Fatalf("postgres has %v, sqlite has %v", pg, lite)
	}
	if last := pg[len(pg)-1]; !strings.HasPrefix(last, fmt.Sprintf("%05d_", Latest)) {
		t.Fatalf("the newest is %s, Latest says %d", last, Latest)
	}
}
