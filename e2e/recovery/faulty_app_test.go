package recovery

import (
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
	"hydragate/gateway/delivery"
)

// maxMemory is the limit of the resident memory of the gateway under any load.
const maxMemory = 256 << 20

// TestFaultyApp_Isolated checks that a faulty application does not affect other instances and
// conversations. The application of one instance hangs, fails, responds slowly and sends huge
// responses for all its users; the application of another instance does so for a few users.
// Messages of other users must be delivered during each fault, messages to the faulty applications
// must be delivered in the end, and the memory of the gateway must stay below maxMemory.
//
// With HYDRAGATE_TEST_LONG=1 more messages wait than the gateway delivers concurrently to one
// instance, the applications hang for longer than the response timeout, and messages of other users
// must be delivered as fast as before.
func TestFaultyApp_Isolated(t *testing.T) {
	harness.ParallelUnlessFull(t)
	window := time.Duration(harness.Scaled(1, 5)) * time.Second
	s, p := harness.Start(t, harness.Options{})
	faulty := s.AddFaultyApp()
	people := s.NewLoad(harness.Scaled(1, 6))
	var faultLoads []*harness.MessageLoad
	stop := people.SendInBackground(500 * time.Millisecond)
	s.Sleep(window) // exclude the cost of the first messages
	before := s.MeasureWindows(harness.Scaled(1, 8), window)
	during := map[harness.AppFault][]harness.Window{}
	for _, fault := range harness.AppFaults {
		faulty.SetFault(fault)
		callers := harness.Scaled(3, 60)
		if fault == harness.AppHangs { // more than the gateway delivers concurrently
			callers = harness.Scaled(3, app.DeliverySize/2+50)
		}
		few, many := faulty.NewSelectedLoad(3), faulty.NewLoad(callers)
		few.StartSending(t.Context(), 1)
		many.StartSending(t.Context(), 1)
		faultLoads = append(faultLoads, few, many)
		harness.Eventually(t, "all users reach an application that "+string(fault), func() bool {
			return faulty.CallsDuring(fault) >= callers
		})
		met := time.Now()
		harness.Eventually(t, "other users are served while an application "+string(fault), func() bool {
			return len(people.DeliveryLatencies(harness.Window{From: met, To: time.Now()})) >= len(people.Users)
		})
		if took := time.Since(met); took > delivery.ResponseTimeout {
			t.Errorf("other users served after %s while an application %s, want at most %s",
				took, fault, delivery.ResponseTimeout)
		}
		if harness.FullRun() {
			during[fault] = s.MeasureWindows(int(faultDuration(fault)/window), window)
		}
	}
	faulty.SetFault(harness.AppHealthy)
	s.Sleep(window)
	stop()
	s.RequireIdle(harness.EventTimeout)
	people.RequireComplete(1, 0)
	faultMessages := 0
	for _, r := range faultLoads {
		faultMessages += r.RequireDelivered().Sent
	}
	t.Logf("%d messages to faulty applications, all delivered", faultMessages)
	usual := people.DeliveryLatency(before...)
	for fault, windows := range during {
		took := people.DeliveryLatency(windows...)
		t.Logf("p99 of other users %s before, %s while an application %s; %d requests met the fault",
			usual, took, fault, faulty.CallsDuring(fault))
		if limit := max(rawhttp.MaxSlowdown*usual, 100*time.Millisecond); took > limit {
			t.Errorf("p99 of other users = %s while an application %s, want at most %s", took, fault, limit)
		}
	}
	peak := harness.ProcessMemory(t, p.Cmd.Process.Pid, "VmHWM:")
	t.Logf("peak resident memory %d MiB", peak>>20)
	if peak > maxMemory && !harness.RaceEnabled() {
		t.Errorf("peak resident memory = %d bytes, want at most %d", peak, maxMemory)
	}
	s.CheckLog()

	t.Run("control: one delivery at a time", func(t *testing.T) {
		harness.RequireFullRun(t)
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.SingleDelivery
		s.Restart()
		people := s.NewLoad(1)
		stop := people.SendInBackground(500 * time.Millisecond)
		s.Sleep(time.Second)
		faulty.SetFault(harness.AppHangs)
		faulty.NewLoad(1).StartSending(t.Context(), 1)
		windows := s.MeasureWindows(2, window)
		faulty.SetFault(harness.AppHealthy)
		s.Sleep(window)
		stop()
		if took := people.DeliveryLatency(windows...); took <= rawhttp.MaxSlowdown*usual {
			t.Errorf("p99 of other users = %s, want more than %s", took, rawhttp.MaxSlowdown*usual)
		}
	})
}

// faultDuration returns how long a fault lasts in a full run.
func faultDuration(fault harness.AppFault) time.Duration {
	switch fault {
	case harness.AppHangs:
		return 2*delivery.ResponseTimeout + 5*time.Second
	case harness.AppDrips:
		return delivery.ResponseTimeout + 10*time.Second
	}
	return 25 * time.Second
}
