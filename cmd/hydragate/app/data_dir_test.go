//go:build unix

package app

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyFile_Mode tests which modes of the key file are accepted, and that the error says what to do.
func TestKeyFile_Mode(t *testing.T) {
	for mode, want := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o660: true, 0o640: true, // the group may be that of a container
		0o644: false, 0o604: false, 0o666: false, 0o602: false,
	} {
		s := &Settings{DataDir: t.TempDir()}
		if _, err := s.KeyRing(); err != nil {
			t.Fatal(err)
		}
		file := s.KeyFile().Path
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := s.KeyRing()
		if (err == nil) != want {
			t.Errorf("KeyRing() with mode %o = %v, want accepted = %v", mode, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("error = %v, want the command that helps", err)
		}
	}
}

// TestSettings_SecureDataDir tests that the permissions of others are removed from what belongs to this
// user, and that nothing else is changed.
func TestSettings_SecureDataDir(t *testing.T) {
	for name, c := range map[string]struct {
		mode, want fs.FileMode
		log        string // what the log contains; empty if it is empty
	}{
		"private":     {0o700, 0o700, ""},
		"read-only":   {0o500, 0o500, ""},
		"readable":    {0o755, 0o700, "permissions of other users removed"},
		"group":       {0o770, 0o700, "permissions of other users removed"},
		"set group":   {0o770 | fs.ModeSetgid, 0o700, "permissions of other users removed"},
		"shared /tmp": {0o777 | fs.ModeSticky, 0o777 | fs.ModeSticky, "accessible to other users"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := &Settings{DataDir: filepath.Join(t.TempDir(), "data")}
			if _, err := s.DSN(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(s.DataDir, c.mode); err != nil {
				t.Fatal(err)
			}
			if err := s.secureDataDir(t.Context(), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.DataDir)
			if err != nil || info.Mode()&(fs.ModePerm|fs.ModeSticky) != c.want {
				t.Errorf("mode = %v, %v, want %v", info.Mode(), err, c.want)
			}
			if logged := log.String(); !strings.Contains(logged, c.log) || c.log == "" && logged != "" {
				t.Errorf("log = %q, want %q", logged, c.log)
			}
			_ = os.Chmod(s.DataDir, 0o700) // so that it can be removed
		})
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	var log bytes.Buffer
	s := &Settings{DataDir: t.TempDir()}
	if err := os.Chmod(s.DataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.DataDir, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	if err := s.secureDataDir(t.Context(), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.DataDir); err != nil || info.Mode().Perm() != 0o755 ||
		!strings.Contains(log.String(), "accessible to other users") {
		t.Errorf("directory of another user: mode = %v, %v, log = %q, want a warning only", info.Mode(), err, log.String())
	}
}
