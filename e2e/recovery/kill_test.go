package recovery

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestKilledGateway_NoLoss kills the gateway again and again while people write
// on every channel. What was acknowledged is stored once, handed over in order as one
// effect, and answered; a reply is repeated at most for each that was on its way at a
// kill. With HYDRAGATE_TEST_LONG=1: 200 kills and 5,040 messages.
func TestKilledGateway_NoLoss(t *testing.T) {
	harness.ParallelUnlessFull(t)
	kills, each, n := harness.Scaled(12, 200), harness.Scaled(8, 30), harness.Scaled(10, 42)
	s, p := harness.Start(t, harness.Options{})
	p.Kill()
	r := s.NewLoad(each)
	killRepeatedly(s, r, n, kills)
	r.RequireComplete(3*each*n, kills*app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		harness.RequireFullRun(t) // a dozen kills may all come at the wrong moment
		s.Fault = harness.AckBeforeCommit
		r := s.NewLoad(each)
		killRepeatedly(s, r, n, max(kills/8, 12))
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// killRepeatedly lets the people of a round say n messages each while the gateway is killed
// so often, 10 to 200 ms after it began to listen, and lets one live in the end.
func killRepeatedly(s *harness.Harness, r *harness.MessageLoad, n, kills int) {
	s.T.Helper()
	ctx, stop := context.WithTimeout(s.T.Context(), 10*time.Minute)
	defer stop()
	var killed harness.TurnCounter
	r.Pace = harness.DuringTurns(n, kills, &killed)
	r.StartSending(ctx, n)
	for range kills {
		p, err := s.StartReplica(ctx)
		if err != nil {
			s.T.Fatalf("%v\n%s", err, s.LogTail())
		}
		<-time.After(10*time.Millisecond + rand.N(190*time.Millisecond))
		p.Kill()
		s.ExpireLeases(ctx)
		killed.Advance()
	}
	p, err := s.StartReplica(ctx)
	if err != nil {
		s.T.Fatal(err)
	}
	defer p.Kill()
	r.Senders.Wait()
	if !s.WaitIdle(time.Minute) {
		s.T.Errorf("it is not quiet a minute after the last kill\n%s", s.LogTail())
	}
	s.T.Logf("killed %d times", kills)
}
