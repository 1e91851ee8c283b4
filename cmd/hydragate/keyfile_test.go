package main

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"hydragate/store"
)

// TestAKeyStaysForWhatIsLeftBehind begins beside a spool that an earlier process left
// and nobody adopted yet: the key that sealed it stays until it is stored.
func TestAKeyStaysForWhatIsLeftBehind(t *testing.T) {
	s := &settings{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
	log := slog.New(slog.DiscardHandler)
	ring, err := s.keyRing()
	if err != nil {
		t.Fatal(err)
	}
	left, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Keep(t.Context(), []byte(ring.Seal([]byte("hello"), "spool/v1"))); err != nil {
		t.Fatal(err)
	}
	left.Close()
	file := s.keyFile()
	if err := file.add(store.NewMasterKey("k2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.path, time.Now(), time.Now().Add(-2*sealing)); err != nil {
		t.Fatal(err)
	}
	if ring, err = s.keyRing(); err != nil { // with both keys
		t.Fatal(err)
	}
	dsn, err := s.database()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), dsn, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kept, err := s.openSpool(log)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	tend := func() (keys int) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		file.tend(ctx, db, kept, log)
		ring, err := s.keyRing()
		if err != nil {
			t.Fatal(err)
		}
		return len(ring.IDs())
	}
	if n := tend(); n != 2 {
		t.Fatalf("%d keys are left of 2", n)
	}
	if _, err := kept.Adopt(); err != nil {
		t.Fatal(err)
	}
	rs, err := kept.Next(1)
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	if err := kept.Done(rs); err != nil {
		t.Fatal(err)
	}
	if n := tend(); n != 1 {
		t.Errorf("%d keys are left when nothing is", n)
	}
}
