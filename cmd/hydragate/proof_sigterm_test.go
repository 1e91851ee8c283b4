//go:build unix

package main

import (
	"syscall"
	"testing"
	"time"
)

// TestAskedToEndUnderLoad asks the gateway to end in the middle of its work, again and
// again, and starts another when it has. Each ends well and in time; nothing is lost,
// and no reply is said twice. With HYDRAGATE_TEST_LONG=1: twenty times, with 5,040
// messages.
func TestAskedToEndUnderLoad(t *testing.T) {
	wholeOnly(t)
	times, each, n := share(3, 20), share(8, 30), share(12, 42)
	s, p := newStorm(t, climate{})
	var slowest time.Duration
	r, p := s.relay(p, times, each, n, func(p *mortal) { slowest = max(slowest, s.endsWell(p)) })
	t.Logf("ended %d times, each with status 0, the slowest %s after SIGTERM", times, slowest.Round(time.Millisecond))
	r.holds(3*each*n, 0)
	s.healthy()

	t.Run("control: killed", func(t *testing.T) {
		for range 5 {
			var r *round
			r, p = s.relay(p, 8, 8, 16, func(p *mortal) {
				p.kill()
				if p.cmd.ProcessState.Success() {
					t.Error("the check does not see that a killed gateway did not end well")
				}
				s.leasesEnd(t.Context())
			})
			if v := r.judge(); v.echoes > 0 {
				t.Log("control:", v)
				return
			}
		}
		t.Error("the check does not see that replies are said twice when the gateway is killed")
	})
}

// relay lets people talk while one gateway after the other is ended; it gives the last
// one, which lives.
func (s *storm) relay(p *mortal, times, each, n int, end func(*mortal)) (*round, *mortal) {
	s.t.Helper()
	r := s.gather(each)
	var ended tide
	r.pace = during(n, times, &ended)
	r.talk(s.t.Context(), n)
	for range times {
		s.stay(200 * time.Millisecond)
		end(p)
		ended.turn()
		p = s.again()
	}
	r.talks.Wait()
	if !s.quiet(time.Minute) {
		s.t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	return r, p
}

// endsWell asks a gateway to end, which it must do in time and with status 0.
func (s *storm) endsWell(p *mortal) (took time.Duration) {
	s.t.Helper()
	asked := time.Now()
	p.signal(s.t, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		s.t.Errorf("it still runs %s after SIGTERM", stopTime)
		p.kill()
	}
	if !p.cmd.ProcessState.Success() {
		s.t.Errorf("after SIGTERM it ended with %s", p.cmd.ProcessState)
	}
	return time.Since(asked)
}
