//go:build unix

package app

import (
	"os"
	"os/signal"
	"syscall"
)

// lockFile takes a lock that ends with the process, however it ends.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// IgnoreFileSizeLimit makes a limit on the size of files an error of writing, not the end.
func IgnoreFileSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }

// syncDir makes sure that what was renamed in a folder stays so.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
