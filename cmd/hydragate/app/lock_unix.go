//go:build unix

package app

import (
	"io/fs"
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

// checksFileModes reports whether the modes of files show who can read them.
const checksFileModes = true

// isOwnFile reports whether a file belongs to the user of this process.
func isOwnFile(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
