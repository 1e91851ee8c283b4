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

// A KeyFile holds the master keys of an embedded gateway: one line, as
// HYDRAGATE_MASTER_KEYS would have them. It is only ever replaced whole.
type KeyFile struct{ Path string }

func (s *Settings) KeyFile() KeyFile { return KeyFile{filepath.Join(s.DataDir, "master.key")} }

// UsesKeyFile reports whether the master keys are those of the data folder.
func (s *Settings) UsesKeyFile() bool { return s.MasterKeys == "" }

// keyRing gives the keys of the file, which is made when there is none, and follows it.
func (f KeyFile) keyRing() (*keyring.Ring, error) {
	if err := f.createIfMissing(); err != nil {
		return nil, keyFileError(err)
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

// createIfMissing makes the file, with a new key, when there is none: one, of however many do so
// at once.
func (f KeyFile) createIfMissing() error {
	if _, err := os.Stat(f.Path); !os.IsNotExist(err) {
		return err
	}
	unlock, err := f.Lock()
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
	return InvalidSetting("HYDRAGATE_DATA_DIR", "must hold master.key, readable and writable by its owner alone: "+err.Error())
}

func (f KeyFile) Read() (string, error) {
	b, err := os.ReadFile(f.Path)
	return strings.TrimSpace(string(b)), err
}

// lockTimeout is how long the file is waited for: it is changed in moments, but for a
// rotation.
const lockTimeout = 5 * time.Second

// Lock keeps other processes from changing the file.
func (f KeyFile) Lock() (unlock func(), err error) {
	l, err := os.OpenFile(f.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for late := time.Now().Add(lockTimeout); lockFile(l) != nil; {
		if time.Now().After(late) {
			_ = l.Close()
			return nil, fmt.Errorf("another masterkey rotate is at work on %s: let it end", f.Path)
		}
		<-time.After(50 * time.Millisecond)
	}
	return func() { _ = l.Close() }, nil
}

// Prepend puts a key before those of the file.
func (f KeyFile) Prepend(key string) error {
	was, err := f.Read()
	if err != nil {
		return err
	}
	return f.replace(key + "," + was)
}

// MaxStoreDelay is more than passes from the sealing of a value until it is stored.
const MaxStoreDelay = time.Minute

// pastStoreDelay reports whether nothing can be on its way that was sealed with a key which
// was first before.
func (f KeyFile) pastStoreDelay() bool {
	about, err := os.Stat(f.Path)
	return err == nil && time.Since(about.ModTime()) > MaxStoreDelay
}

// DropUnusedKeys takes the keys out of the file that nothing hangs on, but never the first, and
// gives their ids.
func (f KeyFile) DropUnusedKeys(ctx context.Context, s *store.Store) (dropped []string, err error) {
	text, err := f.Read()
	if err != nil || !strings.Contains(text, ",") {
		return nil, err
	}
	hanging, err := s.KeyUsage(ctx)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(strings.Split(text, ","), func(key string) bool {
		id, _, _ := strings.Cut(strings.TrimSpace(key), ":")
		free := slices.ContainsFunc(hanging, func(h store.KeyUsage) bool { return h.Key == id && !h.Primary && h.IsUnused() })
		if free {
			dropped = append(dropped, id)
		}
		return free
	})
	if len(dropped) == 0 {
		return nil, nil
	}
	return dropped, f.replace(strings.Join(kept, ","))
}

// replace writes the file so that whoever reads it, at whatever moment anything ends,
// finds all of the old text or all of the new.
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

// maintainInterval is how long a key stays in the file after the last code that needs it.
const maintainInterval = time.Minute

// maintain ends rotations until ctx ends: it seals anew what is left on an old key, and takes
// the key out of the file once nothing hangs on it any more.
func (f KeyFile) maintain(ctx context.Context, s *store.Store, kept *spool.Spool, log *slog.Logger) {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		// What the spool holds is sealed too, and so is what is left behind in its folder.
		empty, err := kept.IsEmpty()
		switch {
		case err != nil:
			log.WarnContext(ctx, "master keys not looked through", "error", err)
		case empty:
			f.finishRotation(ctx, s, log)
		}
		look.Reset(maintainInterval)
	}
}

// finishRotation leaves the file alone while a rotation is at work on it.
func (f KeyFile) finishRotation(ctx context.Context, s *store.Store, log *slog.Logger) {
	if text, err := f.Read(); err != nil || !strings.Contains(text, ",") || !f.pastStoreDelay() {
		return
	}
	unlock, err := f.Lock()
	if err != nil {
		return
	}
	defer unlock()
	// What was on its way when it was rotated, or was left by a rotation that was killed.
	err = s.Reencrypt(ctx, func(store.ReencryptProgress) {})
	var dropped []string
	if err == nil {
		dropped, err = f.DropUnusedKeys(ctx, s)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		log.WarnContext(ctx, "master keys not looked through", "error", err)
	case len(dropped) > 0:
		log.InfoContext(ctx, "master keys that nothing needs any more are out of the data folder", "keys", dropped)
	}
}
