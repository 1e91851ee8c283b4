package recovery

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestFullDisk_NoLoss fills the disk of the database while people write on every
// channel. What finds no room is refused with 503; once there is room again everything
// flows within seconds, without a restart, and what was taken is there once.
//
// Postgres meets its end by a limit on the size of its files, which needs no rights,
// and, where the test may mount one, on a small file system that is really full.
// SQLite meets it by a limit on its pages.
func TestFullDisk_NoLoss(t *testing.T) {
	harness.RequireFullRun(t)
	// The limit is no whole number of pages, so that the last one is half written: that
	// is what the server knows a full disk by.
	t.Run("postgres, by size of file", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		pg := harness.NewPostgres(t, "--wal-segsize=1")
		pg.Wrapper = []string{"/bin/sh", "-c", `ulimit -S -f 16385 && exec "$0" "$@"`}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		testFullDisk(t, harness.Options{DatabaseURL: pg.URL(pg.Port)}, fillMessagesTable)
	})
	t.Run("postgres, on a small file system", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		pg := harness.NewPostgres(t, "--wal-segsize=1")
		if !moveToSmallDisk(t, pg) {
			return
		}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		testFullDisk(t, harness.Options{DatabaseURL: pg.URL(pg.Port)}, func(s *harness.Harness) func() { return fillDisk(s, pg.Data) })
	})
	t.Run("sqlite, by number of pages", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		testFullDisk(t, harness.Options{Engine: harness.SQLite, Env: []string{harness.SmallDatabase}}, fillSQLite)
	})
	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		s, _ := harness.Start(t, harness.Options{Fault: harness.AckBeforeCommit, Engine: harness.SQLite, Env: []string{harness.SmallDatabase}})
		r := s.NewLoad(2)
		hush := r.SendInBackground(50 * time.Millisecond)
		s.Sleep(time.Second)
		empty := fillSQLite(s)
		s.Sleep(time.Second)
		hush()
		empty()
		s.WaitIdle(20 * time.Second)
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// testFullDisk lets people write before, while and after the disk is full; fill fills it
// and gives the way to empty it.
func testFullDisk(t *testing.T, c harness.Options, fill func(*harness.Harness) (empty func())) {
	s, p := harness.Start(t, c)
	r := s.NewLoad(harness.Scaled(2, 10))
	hush := r.SendInBackground(200 * time.Millisecond)
	s.Sleep(time.Second)
	empty := fill(s)
	full := time.Now()
	s.Sleep(2 * time.Second)
	until := time.Now()
	refused := 0
	for _, a := range s.Webhooks.CompletedBetween(full, until) {
		switch {
		case a.Status == http.StatusServiceUnavailable:
			refused++
		case !a.Accepted(): // what was taken must be there in the end: a page may have had room left
			t.Errorf("a hook of %s is answered %d while the disk is full", a.Channel, a.Status)
		}
	}
	if refused == 0 {
		t.Error("no hook was refused while the disk was full")
	}
	empty()
	s.RequireRecovery(time.Now())
	s.Sleep(time.Second)
	hush()
	if !s.WaitIdle(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	t.Logf("%d hooks were refused while the disk was full", refused)
	r.RequireComplete(4*len(r.Users), app.OutboxSize)
	select {
	case <-p.Exited:
		t.Error("the gateway did not live through it")
	default:
	}
	s.CheckLog()
}

// fillMessagesTable fills the table of messages up to the size that a file may have, so that no
// page has room for another row.
func fillMessagesTable(s *harness.Harness) (empty func()) {
	s.T.Helper()
	for _, length := range []int{1900, 400, 100} {
		for {
			_, err := s.DB.ExecContext(s.T.Context(), `
				insert into messages (id, tenant_id, conversation_id, instance_id, channel, key, kind, body, text, state)
				select gen_random_uuid(), tenant_id, id, instance_id, channel, 'fat' || gen_random_uuid(), 'text', '{}', left(repeat(md5(random()::text), 60), $1), 'done'
				from (select * from conversations limit 1) c, generate_series(1, 20)`, length)
			if err != nil && strings.Contains(err.Error(), "could not extend") {
				break
			}
			if err != nil {
				s.T.Fatal(err)
			}
		}
	}
	return func() {
		s.Exec(`delete from messages where key like 'fat%'`)
		s.Exec(`vacuum messages`)
	}
}

// moveToSmallDisk puts the data of a server that does not run on a file system of 64
// MiB, where the test may mount one. What it must write before anything else, its log
// of changes, stays outside: without room for that it stops.
func moveToSmallDisk(t *testing.T, p *harness.PostgresServer) (moved bool) {
	t.Helper()
	whole, wal := p.Data+".whole", p.Data+".wal"
	for _, step := range [][]string{
		{"mv", p.Data, whole}, {"mkdir", p.Data}, {"mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", p.Data},
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
		_ = p.StopImmediately()
		// Processes of the server may be about to go: the mount goes with the last of them.
		if out, err := exec.Command("umount", "--lazy", p.Data).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, step := range [][]string{
		{"mv", filepath.Join(whole, "pg_wal"), wal}, {"cp", "-a", whole + "/.", p.Data}, {"ln", "-s", wal, filepath.Join(p.Data, "pg_wal")},
		{"chown", "--reference=" + whole, p.Data}, {"chmod", "0700", p.Data},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", step, out)
		}
	}
	return true
}

// fillDisk leaves no room on the file system of a server, nor in the pages of its table
// of messages.
func fillDisk(s *harness.Harness, data string) (empty func()) {
	s.T.Helper()
	name := filepath.Join(data, "filler")
	f, err := os.Create(name)
	if err != nil {
		s.T.Fatal(err)
	}
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close()
	emptyRows := fillMessagesTable(s)
	return func() {
		if err := os.Remove(name); err != nil {
			s.T.Error(err)
		}
		emptyRows()
	}
}

// fillSQLite fills a SQLite up to what a small gateway may have.
func fillSQLite(s *harness.Harness) (empty func()) {
	s.T.Helper()
	s.Exec(`create table filler (x)`)
	for s.QueryInt(`select page_count from pragma_page_count`) < harness.MaxSQLitePages+10 {
		s.Exec(`insert into filler values (zeroblob(20000))`)
	}
	return func() { s.Exec(`drop table filler`) }
}
