package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/storetest"
)

// newFileFixture returns a fixture in an SQLite file. The other engine has no file to look into: the
// server reuses the space of deleted rows.
func newFileFixture(t *testing.T) (f *fixture, file string) {
	t.Helper()
	file = storetest.NewSQLite(t)
	return newFixture(t, mustOpen(t, file)), file
}

// findInFiles returns which of words occur in the files of an SQLite database, in any case.
func findInFiles(t *testing.T, database string, words ...string) (found []string) {
	t.Helper()
	files, err := filepath.Glob(database + "*")
	must(t, err)
	var content []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		content = append(append(content, bytes.ToLower(b)...), '\n')
	}
	for _, w := range words {
		if bytes.Contains(content, []byte(w)) {
			found = append(found, w)
		}
	}
	return found
}

// TestEraseCustomer_LeavesNoTraceInFiles tests that nothing about an erased customer can be read in the
// database file and its write-ahead log when the call returns, nor after a restart. As a control,
// it checks that the files contained the data before.
func TestEraseCustomer_LeavesNoTraceInFiles(t *testing.T) {
	f, file := newFileFixture(t)
	p := newTracedCustomer(f)
	p.addStoredNames(t)
	if before := findInFiles(t, file, p.markers...); len(before) != len(p.markers) {
		t.Errorf("files contain %v before the erasure, want all of %v", before, p.markers)
	}
	start := time.Now()
	p.eraseCustomer()
	took := time.Since(start)
	if left := findInFiles(t, file, p.markers...); len(left) > 0 {
		t.Errorf("files contain %v after the erasure", left)
	}
	f.Close()
	reopened, err := Open(t.Context(), file, mustRing(t, keyring.GenerateKey("other")))
	must(t, err)
	defer reopened.Close()
	if left := findInFiles(t, file, p.markers...); len(left) > 0 {
		t.Errorf("files contain %v after a restart", left)
	}
	t.Logf("%d markers in the files before the erasure, 0 after; took_ms=%d", len(p.markers), took.Milliseconds())
}

// TestScrub_ManyCustomers erases half of many customers, in random order and among changes that move
// rows within the file. Nothing about them may be left in the files, and everything about the
// others. As a control, some of it must be left before the files are scrubbed.
func TestScrub_ManyCustomers(t *testing.T) {
	f, file := newFileFixture(t)
	random := rand.New(rand.NewPCG(1, 2))
	var kept, erased []string
	var customers []string
	const count = 200
	for n := range count {
		mark := fmt.Sprintf("canary%04dcanary", n)
		c, err := f.CreateCustomer(t.Context(), identity.Customer{
			TenantID: f.tenant, Email: fmt.Sprintf("%x%s@example.com", random.Uint64(), mark), FirstName: mark,
			Metadata: fmt.Appendf(nil, `{"note":"%s"}`, bytes.Repeat([]byte(mark), random.IntN(200))),
		}, identity.System)
		must(t, err)
		customers = append(customers, c.ID)
		if n%2 == 0 {
			erased = append(erased, mark)
		} else {
			kept = append(kept, mark)
		}
	}
	for n, id := range customers {
		if n%2 > 0 {
			continue
		}
		// Without scrubbing after each.
		mustExec(t, f.Store, `delete from customers where id = $1`, id)
	}
	before := findInFiles(t, file, erased...)
	mustExec(t, f.Store, f.dialect.RequestRewrite)
	must(t, f.Scrub(t.Context()))
	if left := findInFiles(t, file, erased...); len(left) > 0 {
		t.Errorf("files contain %v after Scrub", left)
	}
	if found := findInFiles(t, file, kept...); len(found) != len(kept) {
		t.Errorf("files contain %d other customers, want %d", len(found), len(kept))
	}
	if len(before) == 0 {
		t.Error("nothing about deleted customers was in the files before Scrub, want the control to find some")
	}
	t.Logf("%d customers deleted, %d readable before Scrub, 0 after", len(erased), len(before))
}

// TestPurge_LeavesNoTraceInFiles tests that the texts that retention removes cannot be read in the
// files after the next Scrub, and that younger texts are kept.
func TestPurge_LeavesNoTraceInFiles(t *testing.T) {
	f, file := newFileFixture(t)
	insert := func(sender, text string, days int) {
		a := f.markedArrival(f.instance, adapters.Telegram, sender, sender, false, text)
		f.insertMessages(a)
		f.insertReply(a, a.ID)
		mustExec(t, f.Store, `update outbox set text = $2 where conversation_id = $1`, a.ConversationID, "re "+text)
		f.backdate(days, a)
	}
	insert("4711", "old canary text", 31)
	insert("4712", "young canary text", 29)
	want := []string{"old canary text", "re old canary text", "young canary text", "re young canary text"}
	if found := findInFiles(t, file, want...); len(found) != len(want) {
		t.Fatalf("files contain %v before the purge, want %v", found, want)
	}
	f.purge()
	must(t, f.Scrub(t.Context()))
	if left := findInFiles(t, file, want[:2]...); len(left) > 0 {
		t.Errorf("files contain %v after the purge", left)
	}
	if found := findInFiles(t, file, want[2:]...); len(found) != 2 {
		t.Errorf("files contain %v, want the younger texts", found)
	}
}

// TestScrub_Rewrites tests when the file is rewritten: on the first call of a day, and after an
// erasure.
func TestScrub_Rewrites(t *testing.T) {
	f, file := newFileFixture(t)
	version := func() string {
		return queryText(t, f.Store, `select cast(user_version as text) from pragma_user_version`)
	}
	must(t, f.Scrub(t.Context()))
	today := version()
	if today == "0" || today == "-1" {
		t.Errorf("user_version = %s after Scrub, want a day", today)
	}
	mustExec(t, f.Store, f.dialect.RequestRewrite)
	must(t, f.db.Scrub(t.Context(), 0)) // the file is larger
	if v := version(); v != "0" {
		t.Errorf("user_version = %s after Scrub of a file that is too large, want 0", v)
	}
	must(t, f.Scrub(t.Context()))
	if v := version(); v != today {
		t.Errorf("user_version = %s after a second Scrub, want %s", v, today)
	}
	if info, err := os.Stat(file + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("write-ahead log = %v, %v, want an empty file", info, err)
	}
}
