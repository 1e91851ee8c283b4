//go:build unix

package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	sqlite "modernc.org/sqlite"
)

// TestFullDiskIsNoLoss fills the disk of the database while people write on every
// channel. What finds no room is refused with 503; once there is room again everything
// flows within seconds, without a restart, and what was taken is there once.
//
// Postgres meets its end by a limit on the size of its files, which needs no rights,
// and, where the test may mount one, on a small file system that is really full.
// SQLite meets it by a limit on its pages.
func TestFullDiskIsNoLoss(t *testing.T) {
	wholeOnly(t)
	// The limit is no whole number of pages, so that the last one is half written: that
	// is what the server knows a full disk by.
	t.Run("postgres, by size of file", func(t *testing.T) {
		alongside(t)
		pg := makePostgres(t, "--wal-segsize=1")
		pg.around = []string{"/bin/sh", "-c", `ulimit -S -f 16385 && exec "$0" "$@"`}
		if err := pg.start(); err != nil {
			t.Fatal(err)
		}
		fullDisk(t, climate{database: pg.url(pg.port)}, fatRows)
	})
	t.Run("postgres, on a small file system", func(t *testing.T) {
		alongside(t)
		pg := makePostgres(t, "--wal-segsize=1")
		if !moveToSmallDisk(t, pg) {
			return
		}
		if err := pg.start(); err != nil {
			t.Fatal(err)
		}
		fullDisk(t, climate{database: pg.url(pg.port)}, func(s *storm) func() { return fillDisk(s, pg.data) })
	})
	t.Run("sqlite, by number of pages", func(t *testing.T) {
		alongside(t)
		fullDisk(t, climate{role: "small gateway", database: filepath.Join(t.TempDir(), "hydragate.db")}, manyPages)
	})
	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		alongside(t)
		s, _ := newStorm(t, climate{role: "small hasty gateway", database: filepath.Join(t.TempDir(), "hydragate.db")})
		r := s.gather(2)
		hush := r.murmur(50 * time.Millisecond)
		s.stay(time.Second)
		empty := manyPages(s)
		s.stay(time.Second)
		hush()
		empty()
		s.quiet(20 * time.Second)
		r.failing(func(v verdict) int { return v.lost })
	})
}

// fullDisk lets people write before, while and after the disk is full; fill fills it
// and gives the way to empty it.
func fullDisk(t *testing.T, c climate, fill func(*storm) (empty func())) {
	s, p := newStorm(t, c)
	r := s.gather(share(2, 10))
	hush := r.murmur(200 * time.Millisecond)
	s.stay(time.Second)
	empty := fill(s)
	full := time.Now()
	s.stay(2 * time.Second)
	until := time.Now()
	refused := 0
	for _, a := range s.hooks.between(full, until) {
		switch {
		case a.status == http.StatusServiceUnavailable:
			refused++
		case !a.taken(): // what was taken must be there in the end: a page may have had room left
			t.Errorf("a hook of %s is answered %d while the disk is full", a.channel, a.status)
		}
	}
	if refused == 0 {
		t.Error("no hook was refused while the disk was full")
	}
	empty()
	s.recovers(time.Now())
	s.stay(time.Second)
	hush()
	if !s.quiet(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	t.Logf("%d hooks were refused while the disk was full", refused)
	r.holds(4*len(r.folk), outboxSize)
	select {
	case <-p.ended:
		t.Error("the gateway did not live through it")
	default:
	}
	s.healthy()
}

// fatRows fills the table of messages up to the size that a file may have, so that no
// page has room for another row.
func fatRows(s *storm) (empty func()) {
	s.t.Helper()
	for _, length := range []int{1900, 400, 100} {
		for {
			_, err := s.sql.ExecContext(s.t.Context(), `
				insert into messages (id, tenant_id, conversation_id, instance_id, channel, key, kind, body, text, state)
				select gen_random_uuid(), tenant_id, id, instance_id, channel, 'fat' || gen_random_uuid(), 'text', '{}', left(repeat(md5(random()::text), 60), $1), 'done'
				from (select * from conversations limit 1) c, generate_series(1, 20)`, length)
			if err != nil && strings.Contains(err.Error(), "could not extend") {
				break
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return func() {
		s.exec(`delete from messages where key like 'fat%'`)
		s.exec(`vacuum messages`)
	}
}

// moveToSmallDisk puts the data of a server that does not run on a file system of 64
// MiB, where the test may mount one. What it must write before anything else, its log
// of changes, stays outside: without room for that it stops.
func moveToSmallDisk(t *testing.T, p *ownPostgres) (moved bool) {
	t.Helper()
	whole, wal := p.data+".whole", p.data+".wal"
	for _, step := range [][]string{
		{"mv", p.data, whole}, {"mkdir", p.data}, {"mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", p.data},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			if step[0] == "mount" {
				t.Logf("no rights to mount a file system, the limit on files stands for it: %s", out)
				return false
			}
			t.Fatalf("%v: %s", step, out)
		}
	}
	t.Cleanup(func() {
		_ = p.halt()
		// Processes of the server may be about to go: the mount goes with the last of them.
		if out, err := exec.Command("umount", "--lazy", p.data).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, step := range [][]string{
		{"mv", filepath.Join(whole, "pg_wal"), wal}, {"cp", "-a", whole + "/.", p.data}, {"ln", "-s", wal, filepath.Join(p.data, "pg_wal")},
		{"chown", "--reference=" + whole, p.data}, {"chmod", "0700", p.data},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", step, out)
		}
	}
	return true
}

// fillDisk leaves no room on the file system of a server, nor in the pages of its table
// of messages.
func fillDisk(s *storm, data string) (empty func()) {
	s.t.Helper()
	name := filepath.Join(data, "filler")
	f, err := os.Create(name)
	if err != nil {
		s.t.Fatal(err)
	}
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close()
	emptyRows := fatRows(s)
	return func() {
		if err := os.Remove(name); err != nil {
			s.t.Error(err)
		}
		emptyRows()
	}
}

// smallDatabase is how many pages SQLite may have in a small gateway.
const smallDatabase = 1000

// shrink makes every database that is opened from now on a small one.
func shrink() {
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
		_, err := conn.ExecContext(context.Background(), "pragma max_page_count = "+strconv.Itoa(smallDatabase), nil)
		return err
	})
}

// manyPages fills a SQLite up to what a small gateway may have.
func manyPages(s *storm) (empty func()) {
	s.t.Helper()
	s.exec(`create table filler (x)`)
	for s.count(`select page_count from pragma_page_count`) < smallDatabase+10 {
		s.exec(`insert into filler values (zeroblob(20000))`)
	}
	return func() { s.exec(`drop table filler`) }
}
