//go:build unix

package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A DiskFault fills the disk of the database of a gateway. free makes space again.
type DiskFault func(h *Harness) (free func())

// StartFileSizeLimit starts a Postgres server that cannot write files beyond a size. This needs no
// privileges. The limit is not a multiple of the page size, so that the last page is written partially.
// Postgres detects a full disk by that. The fault fills the table of messages up to the limit.
func StartFileSizeLimit(t *testing.T) (Options, DiskFault) {
	t.Helper()
	pg := NewPostgres(t, "--wal-segsize=1")
	pg.Wrapper = []string{"/bin/sh", "-c", `ulimit -S -f 16385 && exec "$0" "$@"`}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	return Options{DatabaseURL: pg.URL(pg.Port)}, (*Harness).fillMessagesTable
}

// StartSmallDisk starts a Postgres server on a file system of 96 MiB. It skips the test if it may not
// mount one. The fault fills the file system.
func StartSmallDisk(t *testing.T) (Options, DiskFault) {
	t.Helper()
	pg := NewPostgres(t, "--wal-segsize=1")
	pg.moveToSmallDisk(t)
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	return Options{DatabaseURL: pg.URL(pg.Port)}, func(h *Harness) func() { return h.fillDisk(pg.Data) }
}

// LimitSQLitePages returns the options of a gateway whose SQLite file is limited to MaxSQLitePages. The
// fault fills it.
func LimitSQLitePages(*testing.T) (Options, DiskFault) {
	return Options{Engine: SQLite, Env: []string{SmallDatabase}}, (*Harness).fillSQLite
}

// fillMessagesTable fills the messages table up to the maximum file size, so that no page has space for
// another row.
func (h *Harness) fillMessagesTable() (free func()) {
	h.T.Helper()
	for _, length := range []int{1900, 400, 100} {
		for {
			_, err := h.DB.ExecContext(h.T.Context(), `
				insert into messages (id, tenant_id, conversation_id, instance_id, channel,
					key, kind, body, text, state)
				select gen_random_uuid(), tenant_id, id, instance_id, channel,
					'filler' || gen_random_uuid(), 'text', '{}', left(repeat(md5(random()::text), 60), $1), 'done'
				from (select * from conversations limit 1) c, generate_series(1, 20)`, length)
			if err != nil && strings.Contains(err.Error(), "could not extend") {
				break
			}
			if err != nil {
				h.T.Fatal(err)
			}
		}
	}
	return func() {
		h.Exec(`delete from messages where key like 'filler%'`)
		h.Exec(`vacuum messages`)
	}
}

// moveToSmallDisk moves the data directory of a stopped server to a file system of 96 MiB. The
// write-ahead log stays outside, because Postgres stops if it cannot write it.
func (p *PostgresServer) moveToSmallDisk(t *testing.T) {
	t.Helper()
	original, wal := p.Data+".original", p.Data+".wal"
	run := func(steps ...[]string) {
		for _, step := range steps {
			if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", step, out)
			}
		}
	}
	run([]string{"mv", p.Data, original}, []string{"mkdir", p.Data})
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", p.Data).CombinedOutput()
	if err != nil {
		t.Skipf("cannot mount a file system: %s", out)
	}
	t.Cleanup(func() {
		_ = p.StopImmediately()
		// Processes of the server may still be exiting. A lazy unmount waits for them.
		if out, err := exec.Command("umount", "--lazy", p.Data).CombinedOutput(); err != nil {
			t.Errorf("unmount %s: %s", p.Data, out)
		}
	})
	run(
		[]string{"mv", filepath.Join(original, "pg_wal"), wal},
		[]string{"cp", "-a", original + "/.", p.Data},
		[]string{"ln", "-s", wal, filepath.Join(p.Data, "pg_wal")},
		[]string{"chown", "--reference=" + original, p.Data},
		[]string{"chmod", "0700", p.Data},
	)
}

// fillDisk uses all space on the file system of a server and in the pages of its messages table.
func (h *Harness) fillDisk(data string) (free func()) {
	h.T.Helper()
	name := filepath.Join(data, "filler")
	f, err := os.Create(name)
	if err != nil {
		h.T.Fatal(err)
	}
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close()
	freeRows := h.fillMessagesTable()
	return func() {
		if err := os.Remove(name); err != nil {
			h.T.Error(err)
		}
		freeRows()
	}
}

// fillSQLite fills a SQLite database up to its page limit.
func (h *Harness) fillSQLite() (free func()) {
	h.T.Helper()
	h.Exec(`create table filler (x)`)
	for h.QueryInt(`select page_count from pragma_page_count`) < MaxSQLitePages+10 {
		h.Exec(`insert into filler values (zeroblob(20000))`)
	}
	return func() { h.Exec(`drop table filler`) }
}
