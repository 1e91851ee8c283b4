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
	r, p := rollGateways(s, p, times, users, n, func(p *harness.Process) {
		slowest = max(slowest, stopGracefully(s, p))
	})
	t.Logf("%d shutdowns with status 0, the slowest took %s", times, slowest.Round(time.Millisecond))
	r.RequireComplete(3*users*n, 0)
	s.CheckLog()

	t.Run("control: killed", func(t *testing.T) {
		for range 5 {
			var r *harness.MessageLoad
			r, p = rollGateways(s, p, 8, 8, 16, func(p *harness.Process) {
				p.Kill()
				if p.Cmd.ProcessState.Success() {
					t.Error("Success() = true for a killed gateway, want false")
				}
				s.ExpireLeases(t.Context())
			})
			if v := r.Report(); v.ExtraReplies > 0 {
				t.Log("control:", v)
				return
			}
		}
		t.Error("extra replies = 0 with killed gateways, want some")
	})
}

// rollGateways sends messages while it ends and replaces the gateway the given number of times. It
// returns the load and the last gateway, which still runs.
func rollGateways(
	s *harness.Harness, p *harness.Process, times, users, n int, end func(*harness.Process),
) (*harness.MessageLoad, *harness.Process) {
	s.T.Helper()
	r := s.NewLoad(users)
	var ended harness.TurnCounter
	r.Pace = harness.DuringTurns(n, times, &ended)
	r.StartSending(s.T.Context(), n)
	for range times {
		s.Sleep(200 * time.Millisecond)
		end(p)
		ended.Advance()
		p = s.Restart()
	}
	r.Senders.Wait()
	if !s.WaitIdle(time.Minute) {
		s.T.Errorf("not idle after a minute\n%s", s.LogTail())
	}
	return r, p
}

// stopGracefully sends SIGTERM and fails the test unless the gateway exits in time and with status
// 0. It returns how long that took.
func stopGracefully(s *harness.Harness, p *harness.Process) (took time.Duration) {
	s.T.Helper()
	started := time.Now()
	if err := p.Stop(); err != nil {
		s.T.Error(err)
	}
	return time.Since(started)
}
