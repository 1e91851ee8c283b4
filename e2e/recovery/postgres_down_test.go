package recovery

import (
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestPostgresDown_NoLoss checks that no message is lost when Postgres is stopped and restarted
// repeatedly while users write on every channel. While it is down no webhook may be accepted,
// except an SMS, which must be in the database in the end. Within five seconds of a restart
// messages must be processed again, and every accepted message must be stored once. With
// HYDRAGATE_TEST_LONG=1 there are twenty outages.
func TestPostgresDown_NoLoss(t *testing.T) {
	harness.ParallelUnlessFull(t)
	outages := harness.Scaled(2, 20)
	pg := harness.StartPostgres(t)
	s, p := harness.Start(t, harness.Options{DatabaseURL: pg.URL(pg.Port)})
	r := s.NewLoad(harness.Scaled(3, 10))
	stop := r.SendInBackground(150 * time.Millisecond)
	for range outages {
		s.RestartPostgres(pg)
	}
	stop()
	s.RequireIdle(harness.EventTimeout)
	r.RequireComplete(outages*len(r.Users), outages*app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before commit", func(t *testing.T) {
		p.Kill()
		s.Fault = harness.AckBeforeCommit
		p, err := s.StartReplica(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		r := s.NewLoad(2)
		started := time.Now()
		stop := r.SendInBackground(50 * time.Millisecond)
		s.AwaitWebhooks(started)
		if err := pg.StopImmediately(); err != nil {
			t.Fatal(err)
		}
		down := time.Now()
		harness.Eventually(t, "a webhook is accepted while the database is down", func() bool {
			return s.AcceptedDuring(down, time.Now()) > 0
		})
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		stop()
		s.WaitIdle(harness.EventTimeout)
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}
