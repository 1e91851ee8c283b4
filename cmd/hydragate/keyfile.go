package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hydragate/gateway/spool"
	"hydragate/store"
)

// A keyFile holds the master keys of an embedded gateway: one line, as
// HYDRAGATE_MASTER_KEYS would have them. It is only ever replaced whole.
type keyFile struct{ path string }

func (s *settings) keyFile() keyFile { return keyFile{filepath.Join(s.DataDir, "master.key")} }

// ownsKeys reports whether the master keys are those of the data folder.
func (s *settings) ownsKeys() bool { return s.MasterKeys == "" }

// ring gives the keys of the file, which is made when there is none, and follows it.
func (f keyFile) ring() (*store.KeyRing, error) {
	if err := f.ensure(); err != nil {
		return nil, unreadable(err)
	}
	if _, err := f.read(); err != nil {
		return nil, unreadable(err)
	}
	ring, err := store.FollowKeyRing(f.read)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return ring, nil
}

// ensure makes the file, with a new key, when there is none: one, of however many do so
// at once.
func (f keyFile) ensure() error {
	if _, err := os.Stat(f.path); !os.IsNotExist(err) {
		return err
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(f.path); !os.IsNotExist(err) {
		return err
	}
	return f.replace(store.NewMasterKey("k1"))
}

func unreadable(err error) error {
	return wrong("HYDRAGATE_DATA_DIR", "must hold master.key, readable and writable by its owner alone: "+err.Error())
}

func (f keyFile) read() (string, error) {
	b, err := os.ReadFile(f.path)
	return strings.TrimSpace(string(b)), err
}

// lockPatience is how long the file is waited for: it is changed in moments, but for a
// rotation.
const lockPatience = 5 * time.Second

// lock keeps other processes from changing the file.
func (f keyFile) lock() (unlock func(), err error) {
	l, err := os.OpenFile(f.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for late := time.Now().Add(lockPatience); lockFile(l) != nil; {
		if time.Now().After(late) {
			_ = l.Close()
			return nil, fmt.Errorf("another masterkey rotate is at work on %s: let it end", f.path)
		}
		<-time.After(50 * time.Millisecond)
	}
	return func() { _ = l.Close() }, nil
}

// add puts a key before those of the file.
func (f keyFile) add(key string) error {
	was, err := f.read()
	if err != nil {
		return err
	}
	return f.replace(key + "," + was)
}

// sealing is more than passes from the sealing of a value until it is stored.
const sealing = time.Minute

// settled reports whether nothing can be on its way that was sealed with a key which
// was first before.
func (f keyFile) settled() bool {
	about, err := os.Stat(f.path)
	return err == nil && time.Since(about.ModTime()) > sealing
}

// tidy takes the keys out of the file that nothing hangs on, but never the first, and
// gives their ids.
func (f keyFile) tidy(ctx context.Context, s *store.Store) (dropped []string, err error) {
	text, err := f.read()
	if err != nil || !strings.Contains(text, ",") {
		return nil, err
	}
	hanging, err := s.Hanging(ctx)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(strings.Split(text, ","), func(key string) bool {
		id, _, _ := strings.Cut(strings.TrimSpace(key), ":")
		free := slices.ContainsFunc(hanging, func(h store.Hanging) bool { return h.Key == id && !h.First && h.Free() })
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
func (f keyFile) replace(text string) error {
	next := f.path + ".new"
	if err := os.Remove(next); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := writeNew(next, []byte(text)); err != nil {
		return err
	}
	if err := os.Rename(next, f.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(f.path))
}

// tidyEvery is how long a key stays in the file after the last code that needs it.
const tidyEvery = time.Minute

// tend ends rotations until ctx ends: it seals anew what is left on an old key, and takes
// the key out of the file once nothing hangs on it any more.
func (f keyFile) tend(ctx context.Context, s *store.Store, kept *spool.Spool, log *slog.Logger) {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		// What the spool holds is sealed too, and so is what is left behind in its folder.
		empty, err := kept.Empty()
		switch {
		case err != nil:
			log.WarnContext(ctx, "master keys not looked through", "error", err)
		case empty:
			f.tidyBeside(ctx, s, log)
		}
		look.Reset(tidyEvery)
	}
}

// tidyBeside leaves the file alone while a rotation is at work on it.
func (f keyFile) tidyBeside(ctx context.Context, s *store.Store, log *slog.Logger) {
	if text, err := f.read(); err != nil || !strings.Contains(text, ",") || !f.settled() {
		return
	}
	unlock, err := f.lock()
	if err != nil {
		return
	}
	defer unlock()
	// What was on its way when it was rotated, or was left by a rotation that was killed.
	err = s.Reseal(ctx, func(store.Resealing) {})
	var dropped []string
	if err == nil {
		dropped, err = f.tidy(ctx, s)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		log.WarnContext(ctx, "master keys not looked through", "error", err)
	case len(dropped) > 0:
		log.InfoContext(ctx, "master keys that nothing needs any more are out of the data folder", "keys", dropped)
	}
}
