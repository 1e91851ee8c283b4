package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func openSpool(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := Open(dir, limit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appendRecords(t *testing.T, s *Spool, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := s.Append(t.Context(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll returns and acknowledges all records, a few at a time.
func readAll(t *testing.T, s *Spool) (bodies []string) {
	t.Helper()
	for s.HasRecords() {
		rs, err := s.Next(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			bodies = append(bodies, string(r.Body))
		}
		if err := s.Ack(rs); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}

// crash ends a spool as a power failure would: the file remains, and its lock is released. It
// returns the path.
func crash(s *Spool) string {
	_ = s.own.Close()
	return s.own.path
}

// takeOverDir returns the spool of a new process in dir, and the number of records it took over.
func takeOverDir(t *testing.T, dir string) (*Spool, int64) {
	t.Helper()
	s := openSpool(t, dir, DefaultLimit)
	n, err := s.TakeOver()
	if err != nil {
		t.Fatal(err)
	}
	return s, n
}

func numberedMessages(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("message ", i))
	}
	return out
}

func TestSpool_Order(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	if s.HasRecords() {
		t.Fatal("an empty spool has records")
	}
	for range 2 { // an empty file is reused
		appendRecords(t, s, numberedMessages(10)...)
		if got := readAll(t, s); !slices.Equal(got, numberedMessages(10)) {
			t.Fatalf("records = %q", got)
		}
		if n, size := s.Stat(); n != 0 || size != 0 {
			t.Fatalf("Stat = %d, %d, want 0, 0", n, size)
		}
	}
	s.Close()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) > 0 {
		t.Fatalf("Close left %q", left)
	}
}

func TestSpool_Permissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir, DefaultLimit)
	for path, want := range map[string]os.FileMode{dir: 0o700, s.own.path: 0o600} {
		i, err := os.Stat(path)
		if err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %o", path, i.Mode(), err, want)
		}
	}
}

func TestOpen_NotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "spool"), "/proc/spool"} {
		if _, err := Open(dir, DefaultLimit, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("Open(%s) succeeded", dir)
		}
	}
}

func TestSpool_GroupWrite(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if err := s.Append(context.Background(), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := readAll(t, s)
	slices.Sort(got)
	if len(slices.Compact(got)) != 500 {
		t.Fatalf("%d of 500 records", len(got))
	}
}

func TestTakeOver_AfterProcessEnds(t *testing.T) {
	dir := t.TempDir()
	running, dead := openSpool(t, dir, DefaultLimit), openSpool(t, dir, DefaultLimit)
	appendRecords(t, running, "of the running")
	appendRecords(t, dead, numberedMessages(5)...)
	crash(dead)
	s, n := takeOverDir(t, dir)
	if n != 5 {
		t.Fatalf("TakeOver = %d, want 5", n)
	}
	appendRecords(t, s, "newer")
	if got := readAll(t, s); !slices.Equal(got, append(numberedMessages(5), "newer")) {
		t.Fatalf("records = %q", got)
	}
	if got := readAll(t, running); !slices.Equal(got, []string{"of the running"}) {
		t.Fatalf("records of the running process = %q", got)
	}
	if _, err := os.Stat(dead.own.path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the file of the dead process still exists")
	}
}

// TestTakeOver_ReplaysAfterCrash checks that all records of a file are read again after a crash,
// because read offsets are not stored.
func TestTakeOver_ReplaysAfterCrash(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, DefaultLimit)
	appendRecords(t, s, numberedMessages(5)...)
	rs, err := s.Next(2)
	if err != nil || len(rs) != 2 {
		t.Fatal(len(rs), err)
	}
	if err := s.Ack(rs); err != nil {
		t.Fatal(err)
	}
	crash(s)
	next, _ := takeOverDir(t, dir)
	if got := readAll(t, next); !slices.Equal(got, numberedMessages(5)) {
		t.Fatalf("records = %q", got)
	}
}

func TestSpool_RecordAge(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, DefaultLimit)
	s.opened = s.opened.Add(-time.Hour)
	before := time.Now()
	appendRecords(t, s, "old")
	after := time.Now()
	rs, err := s.Next(1)
	if err != nil || len(rs) != 1 || rs[0].Appended.Before(before) || rs[0].Appended.After(after) {
		t.Fatalf("Next = %+v, %v, want a record of between %s and %s", rs, err, before, after)
	}
	crash(s)
	next, _ := takeOverDir(t, dir)
	rs, err = next.Next(1)
	if err != nil || len(rs) != 1 || !rs[0].Appended.IsZero() || time.Since(rs[0].At) > time.Minute {
		t.Fatalf("Next = %+v, %v, want no time by the monotonic clock for a record of another process", rs, err)
	}
}

// TestTakeOver_TruncatedFile checks that every record before the truncation is found.
func TestTakeOver_TruncatedFile(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	appendRecords(t, s, numberedMessages(4)...)
	whole, err := os.ReadFile(crash(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	dir := t.TempDir()
	next := openSpool(t, dir, DefaultLimit)
	defer next.Close()
	for cut := range whole {
		for name, tail := range map[string][]byte{"short": nil, "zeros": make([]byte, 100), "noise": randomBytes(100)} {
			writeFile(t, dir, append(slices.Clone(whole[:cut]), tail...))
			if _, err := next.TakeOver(); err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, next); !slices.Equal(got, numberedMessages(4)[:cut/each]) {
				t.Fatalf("cut at %d of %d (%s): records = %q", cut, len(whole), name, got)
			}
		}
	}
}

// TestSpool_QuarantinesCorruptRecords checks that a corrupt record is quarantined and the others are
// read.
func TestSpool_QuarantinesCorruptRecords(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	appendRecords(t, s, numberedMessages(4)...)
	whole, err := os.ReadFile(crash(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	var log bytes.Buffer
	dir := t.TempDir()
	next, err := Open(dir, DefaultLimit, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for at := each; at < 3*each; at++ {
		log.Reset()
		corrupt := slices.Clone(whole)
		corrupt[at] ^= 0x20
		path := writeFile(t, dir, corrupt)
		if _, err := next.TakeOver(); err != nil {
			t.Fatal(err)
		}
		for range 3 { // as after a failed replay
			if _, err := next.Next(10); err != nil {
				t.Fatal(err)
			}
		}
		lost := at / each
		want := slices.Delete(numberedMessages(4), lost, lost+1)
		if got := readAll(t, next); !slices.Equal(got, want) {
			t.Fatalf("corrupt at %d: records = %q", at, got)
		}
		quarantined, err := os.ReadFile(path + quarantineExt)
		if err != nil || !bytes.Equal(quarantined, corrupt[lost*each:(lost+1)*each]) {
			t.Fatalf("corrupt at %d: %d bytes quarantined, want the record once (%v)", at, len(quarantined), err)
		}
		if n := strings.Count(log.String(), "quarantined"); n != 1 {
			t.Fatalf("logged %d times, want once: %s", n, log.String())
		}
		if err := os.Remove(path + quarantineExt); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpool_IsEmpty checks that a folder with a file that was not taken over yet is not empty.
func TestSpool_IsEmpty(t *testing.T) {
	empty := func(s *Spool, want bool) {
		t.Helper()
		if got, err := s.IsEmpty(); got != want || err != nil {
			t.Errorf("IsEmpty = %v, %v, want %v", got, err, want)
		}
	}
	dir := t.TempDir()
	first := openSpool(t, dir, DefaultLimit)
	empty(first, true)
	appendRecords(t, first, "kept")
	empty(first, false)
	first.Close()
	next := openSpool(t, dir, DefaultLimit)
	if next.HasRecords() {
		t.Fatal("Open took over a file")
	}
	empty(next, false)
	if _, err := next.TakeOver(); err != nil {
		t.Fatal(err)
	}
	empty(next, false)
	readAll(t, next)
	empty(next, true)
}

func TestSpool_Limit(t *testing.T) {
	s := openSpool(t, t.TempDir(), 200)
	var err error
	kept := 0
	for err == nil {
		if err = s.Append(t.Context(), bytes.Repeat([]byte("x"), 20)); err == nil {
			kept++
		}
	}
	if !errors.Is(err, ErrFull) || kept != 200/(headerSize+20) {
		t.Fatalf("appended %d records, then %v", kept, err)
	}
	if got := readAll(t, s); len(got) != kept {
		t.Fatalf("%d of %d records", len(got), kept)
	}
	appendRecords(t, s, "after reading")
}

// TestSpool_WriteError checks that a failed write is reported and keeps earlier records.
func TestSpool_WriteError(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, DefaultLimit)
	appendRecords(t, s, "before")
	writable := s.own.File
	readOnly, err := os.Open(s.own.path)
	if err != nil {
		t.Fatal(err)
	}
	s.own.File = readOnly
	if err := s.Append(t.Context(), []byte("lost")); err == nil {
		t.Fatal("Append to a read-only file succeeded")
	}
	if n, _ := s.Stat(); n != 1 {
		t.Fatalf("Stat = %d records, want 1", n)
	}
	s.own.File = writable
	appendRecords(t, s, "after")
	if got := readAll(t, s); !slices.Equal(got, []string{"before", "after"}) {
		t.Fatalf("records = %q", got)
	}
}

func writeFile(t *testing.T, dir string, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(dir, "0000"+fileExt)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
