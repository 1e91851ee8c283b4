//go:build !unix

package app

import (
	"io/fs"
	"os"
)

// lockFile does nothing without flock. docs/operations.md says that the embedded database is for one
// process only.
func lockFile(*os.File) error { return nil }

// IgnoreFileSizeLimit does nothing without the signal SIGXFSZ.
func IgnoreFileSizeLimit() {}

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }

// checksFileModes reports whether the modes of files show who can read them.
const checksFileModes = false

// isOwnFile returns false where files have no numeric owner.
func isOwnFile(fs.FileInfo) bool { return false }
