//go:build !unix

package app

import "os"

// lockFile does nothing where there is no flock: the embedded database is for one
// process, which the README says.
func lockFile(*os.File) error { return nil }

func IgnoreFileSizeLimit() {}

// syncDir does nothing where folders cannot be synced.
func syncDir(string) error { return nil }
