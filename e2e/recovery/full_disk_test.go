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

// TestFullDisk_NoLoss checks that no message is lost when the disk of the database is full while
// users write on every channel. Webhooks that cannot be stored must be rejected with 503. When
// there is space again, messages must be processed within seconds and without a restart, and every
// accepted message must be stored once.
//
// For Postgres the test limits the size of files, which needs no privileges, and, if it may mount
// one, uses a small file system. For SQLite it limits the number of pages.
func TestFullDisk_NoLoss(t *testing.T) {
	harness.RequireFullRun(t)
	// The limit is not a multiple of the page size, so that the last page is written partially.
	// Postgres detects a full disk by that.
	t.Run("Postgres with a file size limit", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		pg := harness.NewPostgres(t, "--wal-segsize=1")
		pg.Wrapper = []string{"/bin/sh", "-c", `ulimit -S -f 16385 && exec "$0" "$@"`}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		testFullDisk(t, harness.Options{DatabaseURL: pg.URL(pg.Port)}, fillMessagesTable)
	})
	t.Run("Postgres on a small file system", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		pg := harness.NewPostgres(t, "--wal-segsize=1")
		if !moveToSmallDisk(t, pg) {
			return
		}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		fill := func(s *harness.Harness) func() { return fillDisk(s, pg.Data) }
		testFullDisk(t, harness.Options{DatabaseURL: pg.URL(pg.Port)}, fill)
	})
	t.Run("SQLite with a page limit", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		testFullDisk(t, harness.Options{Engine: harness.SQLite, Env: []string{harness.SmallDatabase}}, fillSQLite)
	})
	t.Run("control: acknowledged before commit", func(t *testing.T) {
		harness.ParallelUnlessFull(t)
		s, _ := harness.Start(t, harness.Options{
			Fault: harness.AckBeforeCommit, Engine: harness.SQLite, Env: []string{harness.SmallDatabase},
		})
		r := s.NewLoad(2)
		stop := r.SendInBackground(50 * time.Millisecond)
		s.Sleep(time.Second)
		free := fillSQLite(s)
		s.Sleep(time.Second)
		stop()
		free()
		s.WaitIdle(20 * time.Second)
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// testFullDisk sends messages before, while and after the disk is full. The fill function fills
// the disk and returns a function that frees the space.
func testFullDisk(t *testing.T, options harness.Options, fill func(*harness.Harness) (free func())) {
	s, p := harness.Start(t, options)
	r := s.NewLoad(harness.Scaled(2, 10))
	stop := r.SendInBackground(200 * time.Millisecond)
	s.Sleep(time.Second)
	free := fill(s)
	full := time.Now()
	s.Sleep(2 * time.Second)
	until := time.Now()
	rejected := 0
	for _, a := range s.Webhooks.CompletedBetween(full, until) {
		switch {
		case a.Status == http.StatusServiceUnavailable:
			rejected++
		case !a.Accepted(): // accepted if a page still had space
			t.Errorf("%s webhook while the disk is full: status %d, want 503", a.Channel, a.Status)
		}
	}
	if rejected == 0 {
		t.Error("rejected webhooks = 0 while the disk was full, want some")
	}
	free()
	s.RequireRecovery(time.Now())
	s.Sleep(time.Second)
	stop()
	if !s.WaitIdle(time.Minute) {
		t.Errorf("not idle after a minute\n%s", s.LogTail())
	}
	t.Logf("%d webhooks rejected while the disk was full", rejected)
	r.RequireComplete(4*len(r.Users), app.OutboxSize)
	select {
	case <-p.Exited:
		t.Error("the gateway exited")
	default:
	}
	s.CheckLog()
}

// fillMessagesTable fills the messages table up to the maximum file size, so that no page has
// space for another row.
func fillMessagesTable(s *harness.Harness) (free func()) {
	s.T.Helper()
	for _, length := range []int{1900, 400, 100} {
		for {
			_, err := s.DB.ExecContext(s.T.Context(), `
				insert into messages (id, tenant_id, conversation_id, instance_id, channel,
					key, kind, body, text, state)
				select gen_random_uuid(), tenant_id, id, instance_id, channel,
					'filler' || gen_random_uuid(), 'text', '{}', left(repeat(md5(random()::text), 60), $1), 'done'
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
		s.Exec(`delete from messages where key like 'filler%'`)
		s.Exec(`vacuum messages`)
	}
}

// moveToSmallDisk moves the data directory of a stopped server to a file system of 96 MiB, and
// reports whether the test may mount one. The write-ahead log stays outside, because Postgres
// stops if it cannot write it.
func moveToSmallDisk(t *testing.T, p *harness.PostgresServer) (moved bool) {
	t.Helper()
	original, wal := p.Data+".original", p.Data+".wal"
	for _, step := range [][]string{
		{"mv", p.Data, original}, {"mkdir", p.Data}, {"mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", p.Data},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			if step[0] == "mount" {
				t.Logf("cannot mount a file system, only the file size limit is tested: %s", out)
				return false
			}
			t.Fatalf("%v: %s", step, out)
		}
	}
	t.Cleanup(func() {
		_ = p.StopImmediately()
		// Processes of the server may still be exiting. A lazy unmount waits for them.
		if out, err := exec.Command("umount", "--lazy", p.Data).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, step := range [][]string{
		{"mv", filepath.Join(original, "pg_wal"), wal},
		{"cp", "-a", original + "/.", p.Data},
		{"ln", "-s", wal, filepath.Join(p.Data, "pg_wal")},
		{"chown", "--reference=" + original, p.Data}, {"chmod", "0700", p.Data},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", step, out)
		}
	}
	return true
}

// fillDisk uses all space on the file system of a server and in the pages of its messages table.
func fillDisk(s *harness.Harness, data string) (free func()) {
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
	freeRows := fillMessagesTable(s)
	return func() {
		if err := os.Remove(name); err != nil {
			s.T.Error(err)
		}
		freeRows()
	}
}

// fillSQLite fills a SQLite database up to its page limit.
func fillSQLite(s *harness.Harness) (free func()) {
	s.T.Helper()
	s.Exec(`create table filler (x)`)
	for s.QueryInt(`select page_count from pragma_page_count`) < harness.MaxSQLitePages+10 {
		s.Exec(`insert into filler values (zeroblob(20000))`)
	}
	return func() { s.Exec(`drop table filler`) }
}
