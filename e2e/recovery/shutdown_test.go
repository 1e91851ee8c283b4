package recovery

import (
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestShutdown_UnderLoad checks that a gateway under load that receives SIGTERM exits in time and
// with status 0. It repeats this with new gateways. No message may be lost and no reply sent
// twice. With HYDRAGATE_TEST_LONG=1 there are twenty shutdowns and 5,040 messages.
func TestShutdown_UnderLoad(t *testing.T) {
	harness.RequireFullRun(t)
	times, users, n := harness.Scaled(3, 20), harness.Scaled(8, 30), harness.Scaled(12, 42)
	s, p := harness.Start(t, harness.Options{})
	var slowest time.Duration
	r := s.NewLoad(users)
	r.SendDuring(n, times, func() {
		s.Sleep(200 * time.Millisecond)
		started := time.Now()
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		slowest = max(slowest, time.Since(started))
		p = s.Restart()
	})
	s.RequireIdle(harness.EventTimeout)
	t.Logf("%d shutdowns with status 0, the slowest took %s", times, slowest.Round(time.Millisecond))
	r.RequireComplete(3*users*n, 0)
	s.CheckLog()

	t.Run("control: killed", func(t *testing.T) {
		for range 5 {
			r := s.NewLoad(8)
			r.SendDuring(16, 8, func() {
				s.Sleep(200 * time.Millisecond)
				p.Kill()
				if p.Cmd.ProcessState.Success() {
					t.Error("Success() = true for a killed gateway, want false")
				}
				s.ExpireLeases(t.Context())
				p = s.Restart()
			})
			s.RequireIdle(harness.EventTimeout)
			if v := r.Report(); v.ExtraReplies > 0 {
				t.Log("control:", v)
				return
			}
		}
		t.Error("extra replies = 0 with killed gateways, want some")
	})
}
