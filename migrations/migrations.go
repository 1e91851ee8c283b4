// Package migrations holds the shape of the data, once for each engine under the
// same numbers. It knows nothing of what the tables mean.
package migrations

import (
	"embed"
	"io/fs"
)

// Latest is the number of the newest migration: what this program needs.
const Latest = 9

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Postgres gives the migrations for PostgreSQL 15 and later.
func Postgres() fs.FS { return engineFS("postgres") }

// SQLite gives the migrations for the embedded engine.
func SQLite() fs.FS { return engineFS("sqlite") }

func engineFS(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return f
}
