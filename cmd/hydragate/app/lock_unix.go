//go:build unix

package app

import (
	"os"
	"os/signal"
	"syscall"
)

// lockFile locks a file without waiting. The lock ends with the process, even if it is killed.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// IgnoreFileSizeLimit makes writes fail at the limit on file sizes. By default, the process would be
// killed.
func IgnoreFileSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }

// syncDir makes renames in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
