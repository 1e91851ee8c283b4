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

func open(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := Open(dir, limit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keep(t *testing.T, s *Spool, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := s.Keep(t.Context(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// replay gives all that a spool holds, some at a time, and settles it.
func replay(t *testing.T, s *Spool) (bodies []string) {
	t.Helper()
	for s.Holding() {
		rs, err := s.Next(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			bodies = append(bodies, string(r.Body))
		}
		if err := s.Done(rs); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}

// die ends a spool as a power cut would: the file stays, and its lock goes.
func die(s *Spool) string {
	_ = s.own.Close()
	return s.own.path
}

// adopt gives a new process's spool of the folder, and how many records it took over.
func adopt(t *testing.T, dir string) (*Spool, int64) {
	t.Helper()
	s := open(t, dir, Limit)
	n, err := s.Adopt()
	if err != nil {
		t.Fatal(err)
	}
	return s, n
}

func numbers(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("message ", i))
	}
	return out
}

func TestSpoolGivesBackInOrder(t *testing.T) {
	s := open(t, t.TempDir(), Limit)
	if s.Holding() {
		t.Fatal("an empty spool holds something")
	}
	for range 2 { // emptied, the file is used again
		keep(t, s, numbers(10)...)
		if got := replay(t, s); !slices.Equal(got, numbers(10)) {
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

func TestSpoolIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, Limit)
	for path, want := range map[string]os.FileMode{dir: 0o700, s.own.path: 0o600} {
		i, err := os.Stat(path)
		if err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %o", path, i.Mode(), err, want)
		}
	}
}

func TestSpoolIsRefusedWhereNothingCanBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "spool"), "/proc/spool"} {
		if _, err := Open(dir, Limit, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is taken for a folder that can be written", dir)
		}
	}
}

func TestSpoolSharesWrites(t *testing.T) {
	s := open(t, t.TempDir(), Limit)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if err := s.Keep(context.Background(), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := replay(t, s)
	slices.Sort(got)
	if len(slices.Compact(got)) != 500 {
		t.Fatalf("%d of 500 came back", len(got))
	}
}

func TestSpoolIsAdoptedWhenItsProcessIsGone(t *testing.T) {
	dir := t.TempDir()
	living, dead := open(t, dir, Limit), open(t, dir, Limit)
	keep(t, living, "of the living")
	keep(t, dead, numbers(5)...)
	die(dead)
	s, n := adopt(t, dir)
	if n != 5 {
		t.Fatalf("took over %d records, want the 5 of the dead", n)
	}
	keep(t, s, "newer")
	if got := replay(t, s); !slices.Equal(got, append(numbers(5), "newer")) {
		t.Fatalf("gave back %q", got)
	}
	if got := replay(t, living); !slices.Equal(got, []string{"of the living"}) {
		t.Fatalf("the living has %q", got)
	}
	if _, err := os.Stat(dead.own.path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the file of the dead is still there")
	}
}

// Of a restart only what was done is forgotten: nothing remembers how far one came.
func TestSpoolIsReplayedAgainAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limit)
	keep(t, s, numbers(5)...)
	rs, err := s.Next(2)
	if err != nil || len(rs) != 2 {
		t.Fatal(len(rs), err)
	}
	if err := s.Done(rs); err != nil {
		t.Fatal(err)
	}
	die(s)
	next, _ := adopt(t, dir)
	if got := replay(t, next); !slices.Equal(got, numbers(5)) {
		t.Fatalf("gave back %q", got)
	}
}

func TestSpoolKnowsAgesByItsOwnClockAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limit)
	s.opened = s.opened.Add(-time.Hour)
	keep(t, s, "old")
	s.opened = s.opened.Add(-time.Minute) // a minute passes
	rs, err := s.Next(1)
	if err != nil || len(rs) != 1 || rs[0].Age < time.Minute || rs[0].Age > time.Minute+10*time.Second {
		t.Fatalf("%+v %v, want an age of a minute", rs, err)
	}
	die(s)
	next, _ := adopt(t, dir)
	rs, err = next.Next(1)
	if err != nil || len(rs) != 1 || rs[0].Age != 0 || time.Since(rs[0].At) > time.Minute {
		t.Fatalf("%+v %v, want no age of what another process kept", rs, err)
	}
}

// Cut anywhere, the file gives back every record before the cut.
func TestSpoolCutOffAnywhere(t *testing.T) {
	s := open(t, t.TempDir(), Limit)
	keep(t, s, numbers(4)...)
	whole, err := os.ReadFile(die(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	for cut := range len(whole) {
		for name, tail := range map[string][]byte{"short": nil, "zeros": make([]byte, 100), "noise": noise(100)} {
			dir := t.TempDir()
			write(t, dir, append(slices.Clone(whole[:cut]), tail...))
			next, _ := adopt(t, dir)
			if got := replay(t, next); !slices.Equal(got, numbers(4)[:cut/each]) {
				t.Fatalf("cut at %d of %d (%s): gave back %q", cut, len(whole), name, got)
			}
			next.Close()
		}
	}
}

// What rots in the middle is put aside, and costs nothing that lies beside it.
func TestSpoolPutsAsideWhatCannotBeRead(t *testing.T) {
	s := open(t, t.TempDir(), Limit)
	keep(t, s, numbers(4)...)
	whole, err := os.ReadFile(die(s))
	if err != nil {
		t.Fatal(err)
	}
	each := len(whole) / 4
	for at := each; at < 3*each; at++ {
		dir := t.TempDir()
		rotten := slices.Clone(whole)
		rotten[at] ^= 0x20
		path := write(t, dir, rotten)
		var log bytes.Buffer
		next, err := Open(dir, Limit, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := next.Adopt(); err != nil {
			t.Fatal(err)
		}
		for range 3 { // read again, as after a replay that failed
			if _, err := next.Next(10); err != nil {
				t.Fatal(err)
			}
		}
		lost := at / each
		want := slices.Delete(numbers(4), lost, lost+1)
		if got := replay(t, next); !slices.Equal(got, want) {
			t.Fatalf("rotten at %d: gave back %q", at, got)
		}
		side, err := os.ReadFile(path + aside)
		if err != nil || !bytes.Equal(side, rotten[lost*each:(lost+1)*each]) {
			t.Fatalf("rotten at %d: %d bytes are put aside, want the record once (%v)", at, len(side), err)
		}
		if n := strings.Count(log.String(), "put aside"); n != 1 {
			t.Fatalf("said %d times: %s", n, log.String())
		}
		next.Close()
	}
}

// A folder with a file that nobody adopted yet is not empty, whatever is in this
// process's own.
func TestSpoolKnowsWhatIsLeftBehind(t *testing.T) {
	empty := func(s *Spool, want bool) {
		t.Helper()
		if got, err := s.Empty(); got != want || err != nil {
			t.Errorf("empty: %v, %v; want %v", got, err, want)
		}
	}
	dir := t.TempDir()
	first := open(t, dir, Limit)
	empty(first, true)
	keep(t, first, "kept")
	empty(first, false)
	first.Close()
	next := open(t, dir, Limit)
	if next.Holding() {
		t.Fatal("adopted by itself")
	}
	empty(next, false)
	if _, err := next.Adopt(); err != nil {
		t.Fatal(err)
	}
	empty(next, false)
	replay(t, next)
	empty(next, true)
}

func TestSpoolTakesNoMoreThanItsLimit(t *testing.T) {
	s := open(t, t.TempDir(), 200)
	var err error
	kept := 0
	for err == nil {
		if err = s.Keep(t.Context(), bytes.Repeat([]byte("x"), 20)); err == nil {
			kept++
		}
	}
	if !errors.Is(err, ErrFull) || kept != 200/(header+20) {
		t.Fatalf("kept %d, then %v", kept, err)
	}
	if got := replay(t, s); len(got) != kept {
		t.Fatalf("gave back %d of %d", len(got), kept)
	}
	keep(t, s, "there is room again")
}

// A disk that takes no more, or whose folder was taken away, is an error, and what was
// kept before stays.
func TestSpoolSaysWhenTheDiskDoesNotTakeIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limit)
	keep(t, s, "before")
	writable := s.own.File
	readOnly, err := os.Open(s.own.path)
	if err != nil {
		t.Fatal(err)
	}
	s.own.File = readOnly
	if err := s.Keep(t.Context(), []byte("meanwhile")); err == nil {
		t.Fatal("kept by a file that cannot be written")
	}
	if n, _ := s.Stat(); n != 1 {
		t.Fatalf("%d records, want 1", n)
	}
	s.own.File = writable
	keep(t, s, "after")
	if got := replay(t, s); !slices.Equal(got, []string{"before", "after"}) {
		t.Fatalf("gave back %q", got)
	}
}

func write(t *testing.T, dir string, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(dir, "0000"+ending)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
