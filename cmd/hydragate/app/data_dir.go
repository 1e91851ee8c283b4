package app

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// secureDataDir makes the data directory and the key file accessible to their owner only, which they
// are unless something else created them. It leaves a directory that belongs to another user or is
// shared, such as /tmp, and logs that.
func (s *Settings) secureDataDir(ctx context.Context, log *slog.Logger) error {
	if !checksFileModes {
		return nil
	}
	if info, err := os.Stat(s.DataDir); err == nil && !info.IsDir() {
		return nil // DSN rejects it
	}
	if err := restrict(ctx, log, s.DataDir, 0o700); err != nil {
		return InvalidSetting("HYDRAGATE_DATA_DIR", "must be a directory that others cannot read: "+err.Error())
	}
	if !s.usesKeyFile() {
		return nil
	}
	file := s.KeyFile()
	if info, err := os.Stat(file.Path); err == nil && info.Mode().Perm()&0o007 == 0 {
		if err := restrict(ctx, log, file.Path, 0o600); err != nil {
			return keyFileError(err)
		}
	}
	return nil // otherwise, keyRing creates or rejects it
}

// restrict removes all permissions that mode does not have from a file or directory of this user. It
// does nothing if the file does not exist.
func restrict(ctx context.Context, log *slog.Logger, name string, mode fs.FileMode) error {
	info, err := os.Stat(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&^mode == 0 {
		return nil
	}
	before := fmt.Sprintf("%04o", info.Mode().Perm())
	if !isOwnFile(info) || info.Mode()&fs.ModeSticky != 0 {
		log.WarnContext(ctx, "data directory is accessible to other users, use one that belongs to the user of the gateway",
			"path", name, "mode", before)
		return nil
	}
	if err := os.Chmod(name, info.Mode().Perm()&mode); err != nil {
		return err
	}
	log.WarnContext(ctx, "permissions of other users removed", "path", name, "mode", before,
		"new_mode", fmt.Sprintf("%04o", info.Mode().Perm()&mode))
	return nil
}
