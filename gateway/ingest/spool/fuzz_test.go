package spool

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// FuzzTakeOver checks that complete records are found, in order, in a file with arbitrary bytes between
// them, and that the file is removed in the end.
func FuzzTakeOver(f *testing.F) {
	whole := string(encodeFrame([]byte("between"), time.Unix(1, 0), time.Second))
	for _, between := range []string{
		"", "\x00", "HGs1", "HGs1HGs1HGs1", "HGs1\x00\x00\x00\x00\xff\xff\xff\xff",
		whole, whole[:len(whole)-1], whole[1:], "HGs" + whole,
	} {
		f.Add([]byte(between), []byte("first"), []byte("last"))
	}
	f.Fuzz(func(t *testing.T, between, first, last []byte) {
		if len(first) > maxBody || len(last) > maxBody { // Append rejects them
			return
		}
		dir := t.TempDir()
		content := slices.Concat(encodeFrame(first, time.Now(), 0), between, encodeFrame(last, time.Now(), 0))
		path := filepath.Join(dir, "0"+fileExt)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openSpool(t, dir, DefaultLimit)
		defer s.Close()
		if _, err := s.TakeOver(); err != nil {
			t.Fatal(err)
		}
		var bodies []string
		for rounds := 0; s.HasRecords(); rounds++ {
			rs, err := s.Next(64)
			if err != nil || rounds > len(content) {
				t.Fatalf("after %d rounds: %v", rounds, err)
			}
			for _, r := range rs {
				bodies = append(bodies, string(r.Body))
			}
			if err := s.Ack(rs); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(bodies); n < 2 || bodies[0] != string(first) || bodies[n-1] != string(last) {
			t.Errorf("records = %q, want %q first and %q last", bodies, first, last)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the file still exists: %v", err)
		}
	})
}
