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

// readAll gives all that a spool holds, some at a time, and settles it.
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

// crash ends a spool as a power cut would: the file stays, and its lock goes.
func crash(s *Spool) string {
	_ = s.own.Close()
	return s.own.path
}

// takeOverDir gives a new process's spool of the folder, and how many records it took over.
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
		t.Fatal("an empty spool holds something")
	}
	for range 2 { // emptied, the file is used again
		appendRecords(t, s, numberedMessages(10)...)
		if got := readAll(t, s); !slices.Equal(got, numberedMessages(10)) {
			t.Fatalf("gave back %q", got)
		}
		if n, size := s.Stat(); n != 0 || size != 0 {
			t.Fatalf("%d records and %d bytes are left", n, size)
		}
	}
	s.Close()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) > 0 {
		t.Fatalf("it leaves %q", left)
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
			t.Errorf("%s is taken for a folder that can be written", dir)
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
		t.Fatalf("%d of 500 came back", len(got))
	}
}

func TestTakeOver_AfterProcessEnds(t *testing.T) {
	dir := t.TempDir()
	living, dead := openSpool(t, dir, DefaultLimit), openSpool(t, dir, DefaultLimit)
	appendRecords(t, living, "of the living")
	appendRecords(t, dead, numberedMessages(5)...)
	crash(dead)
	s, n := takeOverDir(t, dir)
	if n != 5 {
		t.Fatalf("took over %d records, want the 5 of the dead", n)
	}
	appendRecords(t, s, "newer")
	if got := readAll(t, s); !slices.Equal(got, append(numberedMessages(5), "newer")) {
		t.Fatalf("gave back %q", got)
	}
	if got := readAll(t, living); !slices.Equal(got, []string{"of the living"}) {
		t.Fatalf("the living has %q", got)
	}
	if _, err := os.Stat(dead.own.path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the file of the dead is still there")
	}
}

// Of a restart only what was done is forgotten: nothing remembers how far one came.
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
		t.Fatalf("gave back %q", got)
	}
}

func TestSpool_RecordAge(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, DefaultLimit)
	s.opened = s.opened.Add(-time.Hour)
	appendRecords(t, s, "old")
	s.opened = s.opened.Add(-time.Minute) // a minute passes
	rs, err := s.Next(1)
	if err != nil || len(rs) != 1 || rs[0].Age < time.Minute || rs[0].Age > time.Minute+10*time.Second {
		t.Fatalf("%+v %v, want an age of a minute", rs, err)
	}
	crash(s)
	next, _ := takeOverDir(t, dir)
	rs, err = next.Next(1)
	if err != nil || len(rs) != 1 || rs[0].Age != 0 || time.Since(rs[0].At) > time.Minute {
		t.Fatalf("%+v %v, want no age of what another process kept", rs, err)
	}
}

// Cut anywhere, the file gives back every record before the cut.
func TestTakeOver_TruncatedFile(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	appendRecords(t, s, numberedMessages(4)...)
	whole, err := os.ReadFile(crash(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	for cut := range len(whole) {
		for name, tail := range map[string][]byte{"short": nil, "zeros": make([]byte, 100), "noise": randomBytes(100)} {
			dir := t.TempDir()
			writeFile(t, dir, append(slices.Clone(whole[:cut]), tail...))
			next, _ := takeOverDir(t, dir)
			if got := readAll(t, next); !slices.Equal(got, numberedMessages(4)[:cut/each]) {
				t.Fatalf("cut at %d of %d (%s): gave back %q", cut, len(whole), name, got)
			}
			next.Close()
		}
	}
}

// What rots in the middle is put aside, and costs nothing that lies beside it.
func TestSpool_QuarantinesCorruptRecords(t *testing.T) {
	s := openSpool(t, t.TempDir(), DefaultLimit)
	appendRecords(t, s, numberedMessages(4)...)
	whole, err := os.ReadFile(crash(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	for at := each; at < 3*each; at++ {
		dir := t.TempDir()
		rotten := slices.Clone(whole)
		rotten[at] ^= 0x20
		path := writeFile(t, dir, rotten)
		var log bytes.Buffer
		next, err := Open(dir, DefaultLimit, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := next.TakeOver(); err != nil {
			t.Fatal(err)
		}
		for range 3 { // read again, as after a replay that failed
			if _, err := next.Next(10); err != nil {
				t.Fatal(err)
			}
		}
		lost := at / each
		want := slices.Delete(numberedMessages(4), lost, lost+1)
		if got := readAll(t, next); !slices.Equal(got, want) {
			t.Fatalf("rotten at %d: gave back %q", at, got)
		}
		side, err := os.ReadFile(path + quarantineExt)
		if err != nil || !bytes.Equal(side, rotten[lost*each:(lost+1)*each]) {
			t.Fatalf("rotten at %d: %d bytes are put aside, want the record once (%v)", at, len(side), err)
		}
		if n := strings.Count(log.String(), "quarantined"); n != 1 {
			t.Fatalf("logged %d times, want once: %s", n, log.String())
		}
		next.Close()
	}
}

// A folder with a file that nobody adopted yet is not empty, whatever is in this
// process's own.
func TestSpool_IsEmpty(t *testing.T) {
	empty := func(s *Spool, want bool) {
		t.Helper()
		if got, err := s.IsEmpty(); got != want || err != nil {
			t.Errorf("empty: %v, %v; want %v", got, err, want)
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
		t.Fatal("adopted by itself")
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
		t.Fatalf("kept %d, then %v", kept, err)
	}
	if got := readAll(t, s); len(got) != kept {
		t.Fatalf("gave back %d of %d", len(got), kept)
	}
	appendRecords(t, s, "there is room again")
}

// A disk that takes no more, or whose folder was taken away, is an error, and what was
// kept before stays.
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
	if err := s.Append(t.Context(), []byte("meanwhile")); err == nil {
		t.Fatal("kept by a file that cannot be written")
	}
	if n, _ := s.Stat(); n != 1 {
		t.Fatalf("%d records, want 1", n)
	}
	s.own.File = writable
	appendRecords(t, s, "after")
	if got := readAll(t, s); !slices.Equal(got, []string{"before", "after"}) {
		t.Fatalf("gave back %q", got)
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
