//go:build !unix

package main

import "os"

// lockFile does nothing where there is no flock: the embedded database is for one
// process, which the README says.
func lockFile(*os.File) error { return nil }

func ignoreFileLimit() {}

// syncFolder does nothing where folders cannot be synced.
func syncFolder(string) error { return nil }
