package recovery

import (
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestPostgresDown_NoLoss stops Postgres in the middle of whatever it does, and starts
// it again, while people write on every channel. While it is down nothing is taken
// (an SMS may be, which must be found in the database in the end); within five
// seconds of its return everything flows; what was taken is there once. With
// HYDRAGATE_TEST_LONG=1: twenty outages.
func TestPostgresDown_NoLoss(t *testing.T) {
	harness.ParallelUnlessFull(t)
	outages := harness.Scaled(3, 20)
	pg := harness.StartPostgres(t)
	s, p := harness.Start(t, harness.Options{DatabaseURL: pg.URL(pg.Port)})
	r := s.NewLoad(harness.Scaled(4, 10))
	hush := r.SendInBackground(150 * time.Millisecond)
	for range outages {
		s.RestartPostgres(pg)
	}
	hush()
	if !s.WaitIdle(time.Minute) {
		t.Errorf("it is not quiet a minute after the last outage\n%s", s.LogTail())
	}
	r.RequireComplete(outages*len(r.Users), outages*app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		p.Kill()
		s.Fault = harness.AckBeforeCommit
		p, err := s.StartReplica(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		r := s.NewLoad(2)
		hush := r.SendInBackground(50 * time.Millisecond)
		s.Sleep(500 * time.Millisecond)
		if err := pg.StopImmediately(); err != nil {
			t.Fatal(err)
		}
		down := time.Now()
		s.Sleep(time.Second)
		taken := s.AcceptedDuring(down, time.Now())
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		hush()
		s.WaitIdle(20 * time.Second)
		r.RequireFault(func(v harness.LoadReport) int { return min(v.Lost, taken) })
	})
}
