package recovery

import (
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestLostCommit_AppliedOnce checks that a message is stored once, delivered with one effect and
// answered once, although Postgres commits writes repeatedly without the gateway receiving the
// response. With HYDRAGATE_TEST_LONG=1 two hundred responses are lost.
func TestLostCommit_AppliedOnce(t *testing.T) {
	harness.ParallelUnlessFull(t)
	lost := harness.Scaled(15, 200)
	s, _ := harness.Start(t, harness.Options{})
	f := harness.InsertCommitLossProxy(t, s.Proxies["postgres"])
	r := s.NewLoad(4)
	stop := r.SendInBackground(100 * time.Millisecond)
	f.LoseCommits(t, lost, "INSERT", "UPDATE", "")
	stop()
	s.RequireIdle(harness.EventTimeout)
	t.Logf("dropped responses by first write: %v", f.LostCounts())
	if f.LostCounts()["INSERT"] == 0 || f.LostCounts()["UPDATE"] == 0 {
		t.Errorf("dropped responses = %v, want both INSERT and UPDATE", f.LostCounts())
	}
	r.RequireComplete(lost, 0)
	s.CheckLog()

	t.Run("control: without the unique message keys", func(t *testing.T) {
		s.Exec(`drop index messages_key`)
		s.Exec(`drop index messages_alt_key`)
		r := s.NewLoad(4)
		stop := r.SendInBackground(50 * time.Millisecond)
		const storedTwice = `select count(*) from (select text from messages group by text having count(*) > 1) as twice`
		for i := 0; i < 40 && s.QueryInt(storedTwice) == 0; i++ {
			f.LoseCommits(t, 1, "INSERT")
		}
		stop()
		r.RequireFault(func(v harness.LoadReport) int { return v.StoredTwice })
	})
}
