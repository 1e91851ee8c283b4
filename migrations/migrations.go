// Package migrations holds the versions of the database schema as SQL files, with the same numbers
// for both engines. Package sqldb applies them.
package migrations

import (
	"embed"
	"io/fs"
)

// Latest is the number of the newest migration, which the program requires.
const Latest = 24

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Postgres returns the migrations for PostgreSQL 15 and later.
func Postgres() fs.FS { return engineFS("postgres") }

// SQLite returns the migrations for SQLite.
func SQLite() fs.FS { return engineFS("sqlite") }

// engineFS returns the files of one engine.
func engineFS(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // dir is embedded
	}
	return f
}
