package claims

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestCrashes_ClaimsNeitherLostNorDoubled kills the gateway again and again while people claim,
// crashes Postgres, empties Redis and puts older copies of it back. A right code in
// time is granted, once; when Redis lost its proof the person is told so, and is never
// told that the code was wrong. With HYDRAGATE_TEST_LONG=1 it goes on until there were
// a thousand claims, three hundred kills, ten crashes and a hundred copies.
func TestCrashes_ClaimsNeitherLostNorDoubled(t *testing.T) {
	harness.ParallelUnlessFull(t)
	want := harness.CrashLimits{Claims: 60, Kills: 20, Crashes: 2, RedisRestores: 12}
	if harness.FullRun() {
		want = harness.CrashLimits{Claims: 1000, Kills: 300, Crashes: 10, RedisRestores: 100}
	}
	r := harness.NewCrashFixture(t, "")
	r.Limit = want
	r.Run(t)
	t.Log(r)
	if r.WrongReplies.Load() > 0 || r.UnexplainedLosses.Load() > 0 || r.DuplicateGrants(t) > 0 {
		t.Errorf("right codes in time: %d called wrong, %d lost without cause; %d granted twice", r.WrongReplies.Load(), r.UnexplainedLosses.Load(), r.DuplicateGrants(t))
	}
	r.RequireNoCodesStored(t)
}

// TestCrashes_ConsumingStoreControl is the control: the same people and the same kills,
// and a gateway whose comparison consumes the proof. It must lose some.
func TestCrashes_ConsumingStoreControl(t *testing.T) {
	r := harness.NewCrashFixture(t, harness.ConsumingCodes)
	r.Limit = harness.CrashLimits{Claims: 400, Kills: 200}
	r.StopEarly = func() bool { return r.WrongReplies.Load()+r.UnexplainedLosses.Load() > 0 }
	r.Run(t)
	t.Log(r)
	if r.WrongReplies.Load()+r.UnexplainedLosses.Load() == 0 {
		t.Error("the test does not see that claims are lost when a comparison consumes the proof")
	}
}
