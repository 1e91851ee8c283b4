//go:build !unix

package spool

import "os"

// lockFile always succeeds, because the platform has no advisory locks. Two processes must not
// share a data directory.
func lockFile(*os.File) (held bool, err error) { return true, nil }
