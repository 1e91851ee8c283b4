package recovery

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestKilledGateway_NoLoss checks that no message is lost when the gateway is killed repeatedly
// while users write on every channel. Every acknowledged message must be stored once, delivered in
// order with one effect, and answered. At most the replies in flight at a kill may be sent twice.
//
// With HYDRAGATE_TEST_LONG=1 there are 200 kills and 5,040 messages.
func TestKilledGateway_NoLoss(t *testing.T) {
	harness.ParallelUnlessFull(t)
	kills, users, n := harness.Scaled(12, 200), harness.Scaled(8, 30), harness.Scaled(10, 42)
	s, p := harness.Start(t, harness.Options{})
	p.Kill()
	r := s.NewLoad(users)
	killRepeatedly(s, r, n, kills)
	r.RequireComplete(3*users*n, kills*app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before commit", func(t *testing.T) {
		harness.RequireFullRun(t) // a dozen kills may all miss the window
		s.Fault = harness.AckBeforeCommit
		r := s.NewLoad(users)
		killRepeatedly(s, r, n, max(kills/8, 12))
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// killRepeatedly lets the users of a load send n messages each while the gateway is killed the
// given number of times, 10 to 200 ms after it began to listen. It then runs a gateway until the
// load is processed.
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
		s.T.Errorf("not idle a minute after the last kill\n%s", s.LogTail())
	}
	s.T.Logf("killed %d times", kills)
}
