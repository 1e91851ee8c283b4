package recovery

import (
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestShutdown_UnderLoad asks the gateway to end in the middle of its work, again and
// again, and starts another when it has. Each ends well and in time; nothing is lost,
// and no reply is said twice. With HYDRAGATE_TEST_LONG=1: twenty times, with 5,040
// messages.
func TestShutdown_UnderLoad(t *testing.T) {
	harness.RequireFullRun(t)
	times, each, n := harness.Scaled(3, 20), harness.Scaled(8, 30), harness.Scaled(12, 42)
	s, p := harness.Start(t, harness.Options{})
	var slowest time.Duration
	r, p := rollGateways(s, p, times, each, n, func(p *harness.Process) { slowest = max(slowest, stopGracefully(s, p)) })
	t.Logf("ended %d times, each with status 0, the slowest %s after SIGTERM", times, slowest.Round(time.Millisecond))
	r.RequireComplete(3*each*n, 0)
	s.CheckLog()

	t.Run("control: killed", func(t *testing.T) {
		for range 5 {
			var r *harness.MessageLoad
			r, p = rollGateways(s, p, 8, 8, 16, func(p *harness.Process) {
				p.Kill()
				if p.Cmd.ProcessState.Success() {
					t.Error("the check does not see that a killed gateway did not end well")
				}
				s.ExpireLeases(t.Context())
			})
			if v := r.Report(); v.ExtraReplies > 0 {
				t.Log("control:", v)
				return
			}
		}
		t.Error("the check does not see that replies are said twice when the gateway is killed")
	})
}

// rollGateways lets people talk while one gateway after the other is ended; it gives the last
// one, which lives.
func rollGateways(s *harness.Harness, p *harness.Process, times, each, n int, end func(*harness.Process)) (*harness.MessageLoad, *harness.Process) {
	s.T.Helper()
	r := s.NewLoad(each)
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
		s.T.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	return r, p
}

// stopGracefully asks a gateway to end, which it must do in time and with status 0.
func stopGracefully(s *harness.Harness, p *harness.Process) (took time.Duration) {
	s.T.Helper()
	asked := time.Now()
	if err := p.Stop(); err != nil {
		s.T.Error(err)
	}
	return time.Since(asked)
}
