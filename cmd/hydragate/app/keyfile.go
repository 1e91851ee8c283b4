package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hydragate/gateway/ingest/spool"
	"hydragate/store"
	"hydragate/store/keyring"
)

// A KeyFile holds the master keys of an embedded gateway: one line, in the format of
// HYDRAGATE_MASTER_KEYS. It is only ever replaced as a whole.
type KeyFile struct{ Path string }

// KeyFile returns the key file of the data directory, which need not exist.
func (s *Settings) KeyFile() KeyFile { return KeyFile{filepath.Join(s.DataDir, "master.key")} }

// usesKeyFile reports whether the master keys are in the data directory.
func (s *Settings) usesKeyFile() bool { return s.MasterKeys == "" }

// keyRing returns a ring that follows the file. It creates the file, with a new key, if it does
// not exist.
func (f KeyFile) keyRing() (*keyring.Ring, error) {
	if err := f.createIfMissing(); err != nil {
		return nil, keyFileError(err)
	}
	if err := f.checkMode(); err != nil {
		return nil, err
	}
	if _, err := f.Read(); err != nil {
		return nil, keyFileError(err)
	}
	ring, err := keyring.Follow(f.Read)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return ring, nil
}

// checkMode returns an error if users other than the owner and the group can read or change the
// file. The group is left to secureDataDir, because container platforms add the group of the
// container to the modes of all files of a volume.
func (f KeyFile) checkMode() error {
	info, err := os.Stat(f.Path)
	if err != nil {
		return keyFileError(err)
	}
	if checksFileModes && info.Mode().Perm()&0o007 != 0 {
		return InvalidSetting("HYDRAGATE_DATA_DIR", fmt.Sprintf("contains a master.key that other users can read or "+
			"change: run chmod 600 %s, and rotate the key if others may have read it", f.Path))
	}
	return nil
}

// createIfMissing creates the file with a new key. If several processes do so concurrently, one
// of them creates it.
func (f KeyFile) createIfMissing() error {
	if _, err := os.Stat(f.Path); !os.IsNotExist(err) {
		return err
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(f.Path); !os.IsNotExist(err) {
		return err
	}
	return f.replace(keyring.GenerateKey("k1"))
}

func keyFileError(err error) error {
	return InvalidSetting("HYDRAGATE_DATA_DIR",
		"must contain master.key, readable and writable by its owner only: "+err.Error())
}

// Read returns the content of the file, without surrounding space.
func (f KeyFile) Read() (string, error) {
	b, err := os.ReadFile(f.Path)
	return strings.TrimSpace(string(b)), err
}

// lockTimeout is how long lock waits. Only a rotation holds the lock for longer than a moment.
const lockTimeout = 5 * time.Second

// lock prevents other processes from changing the file until unlock is called.
func (f KeyFile) lock() (unlock func(), err error) {
	l, err := os.OpenFile(f.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTimeout); lockFile(l) != nil; {
		if time.Now().After(deadline) {
			_ = l.Close()
			return nil, fmt.Errorf("another masterkey rotate is changing %s: wait until it has finished", f.Path)
		}
		<-time.After(50 * time.Millisecond)
	}
	return func() { _ = l.Close() }, nil
}

// Prepend makes key the first key of the file. The caller holds the lock.
func (f KeyFile) Prepend(key string) error {
	keys, err := f.Read()
	if err != nil {
		return err
	}
	return f.replace(key + "," + keys)
}

// MaxStoreDelay is longer than it takes to store a value after it was encrypted.
const MaxStoreDelay = time.Minute

// pastStoreDelay reports whether every value that was encrypted before the last change of the
// file is stored by now.
func (f KeyFile) pastStoreDelay() bool {
	info, err := os.Stat(f.Path)
	return err == nil && time.Since(info.ModTime()) > MaxStoreDelay
}

// dropUnusedKeys removes the keys that nothing needs from the file, but never the first, and
// returns their ids. The caller holds the lock.
func (f KeyFile) dropUnusedKeys(ctx context.Context, st *store.Store) (dropped []string, err error) {
	text, err := f.Read()
	if err != nil || !strings.Contains(text, ",") {
		return nil, err
	}
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(strings.Split(text, ","), func(key string) bool {
		id, _, _ := strings.Cut(strings.TrimSpace(key), ":")
		unused := slices.ContainsFunc(usage, func(u store.KeyUsage) bool {
			return u.Key == id && !u.Primary && u.IsUnused()
		})
		if unused {
			dropped = append(dropped, id)
		}
		return unused
	})
	if len(dropped) == 0 {
		return nil, nil
	}
	return dropped, f.replace(strings.Join(kept, ","))
}

// replace writes the file atomically: a reader finds the old text or the new text, also after a
// crash.
func (f KeyFile) replace(text string) error {
	next := f.Path + ".new"
	if err := os.Remove(next); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := writeNewFile(next, []byte(text)); err != nil {
		return err
	}
	if err := os.Rename(next, f.Path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.Path))
}

// writeNewFile writes a secret to a file that must not exist.
func writeNewFile(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// maintainInterval is the time between two checks for keys that are no longer needed.
const maintainInterval = time.Minute

// maintain finishes rotations until ctx ends: it re-encrypts what is left on an old key, and
// removes the key from the file when nothing needs it.
func (f KeyFile) maintain(ctx context.Context, st *store.Store, sp *spool.Spool, log *slog.Logger) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		f.maintainOnce(ctx, st, sp, log)
		timer.Reset(maintainInterval)
	}
}

// maintainOnce finishes a rotation if the spool is empty: its messages are encrypted too, also those of
// earlier processes.
func (f KeyFile) maintainOnce(ctx context.Context, st *store.Store, sp *spool.Spool, log *slog.Logger) {
	empty, err := sp.IsEmpty()
	switch {
	case err != nil:
		log.WarnContext(ctx, "check master keys failed", "error", err)
	case empty:
		f.finishRotation(ctx, st, log)
	}
}

// finishRotation does nothing while another process rotates the keys.
func (f KeyFile) finishRotation(ctx context.Context, st *store.Store, log *slog.Logger) {
	if text, err := f.Read(); err != nil || !strings.Contains(text, ",") || !f.pastStoreDelay() {
		return
	}
	unlock, err := f.lock()
	if err != nil {
		return
	}
	defer unlock()
	// Values may have been stored since the rotation, or the rotation may have been killed.
	err = st.Reencrypt(ctx, func(store.ReencryptProgress) {})
	var dropped []string
	if err == nil {
		dropped, err = f.dropUnusedKeys(ctx, st)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		log.WarnContext(ctx, "check master keys failed", "error", err)
	case len(dropped) > 0:
		log.InfoContext(ctx, "unused master keys removed", "keys", dropped)
	}
}
