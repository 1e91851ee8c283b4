package recovery

import (
	"net/http"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestFullDisk_NoLoss checks that no message is lost when the disk of the database is full while
// users write on every channel. Webhooks that cannot be stored must be rejected with 503. When
// there is space again, messages must be processed within seconds and without a restart, and every
// accepted message must be stored once.
func TestFullDisk_NoLoss(t *testing.T) {
	harness.RequireFullRun(t)
	for name, start := range map[string]func(*testing.T) (harness.Options, harness.DiskFault){
		"Postgres with a file size limit":  harness.StartFileSizeLimit,
		"Postgres on a small file system":  harness.StartSmallDisk,
		"SQLite with a limit on its pages": harness.LimitSQLitePages,
	} {
		t.Run(name, func(t *testing.T) {
			options, fill := start(t)
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
			t.Logf("%d webhooks rejected while the disk was full", rejected)
			if rejected == 0 {
				t.Error("rejected webhooks = 0 while the disk was full, want some")
			}
			free()
			s.RequireRecovery(time.Now())
			s.Sleep(time.Second)
			stop()
			s.RequireIdle(harness.EventTimeout)
			r.RequireComplete(4*len(r.Users), app.OutboxSize)
			select {
			case <-p.Exited:
				t.Error("the gateway exited")
			default:
			}
			s.CheckLog()
		})
	}
	t.Run("control: acknowledged before commit", func(t *testing.T) {
		options, fill := harness.LimitSQLitePages(t)
		options.Fault = harness.AckBeforeCommit
		s, _ := harness.Start(t, options)
		r := s.NewLoad(2)
		stop := r.SendInBackground(50 * time.Millisecond)
		s.Sleep(time.Second)
		free := fill(s)
		s.Sleep(time.Second)
		stop()
		free()
		s.WaitIdle(harness.EventTimeout)
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}
