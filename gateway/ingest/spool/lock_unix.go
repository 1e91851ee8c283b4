//go:build unix

package spool

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks f until it is closed or the process ends. held is false if another process holds
// the lock.
func lockFile(f *os.File) (held bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
