package recovery

import (
	"math/rand/v2"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// TestKilledGateway_NoLoss checks that no message is lost when the gateway is killed repeatedly
// while users write on every channel, 10 to 200 ms after it began to listen. Every acknowledged
// message must be stored once, delivered in order with one effect, and answered. At most the
// replies in flight at a kill may be sent twice.
//
// With HYDRAGATE_TEST_LONG=1 there are 200 kills and 5,040 messages.
func TestKilledGateway_NoLoss(t *testing.T) {
	harness.ParallelUnlessFull(t)
	kills, users, n := harness.Scaled(6, 200), harness.Scaled(5, 30), harness.Scaled(8, 42)
	s, p := harness.Start(t, harness.Options{})
	sendWhileKilled := func(kills int) *harness.MessageLoad {
		r := s.NewLoad(users)
		r.SendDuring(n, kills, func() {
			<-time.After(10*time.Millisecond + rand.N(190*time.Millisecond))
			p.Kill()
			s.ExpireLeases(t.Context())
			p = s.Restart()
		})
		s.RequireIdle(harness.EventTimeout)
		return r
	}
	sendWhileKilled(kills).RequireComplete(3*users*n, kills*app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before commit", func(t *testing.T) {
		harness.RequireFullRun(t) // a few kills may all miss the window
		s.Fault = harness.AckBeforeCommit
		p.Kill()
		s.ExpireLeases(t.Context())
		p = s.Restart()
		sendWhileKilled(max(kills/8, 12)).RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}
