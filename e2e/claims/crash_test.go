package claims

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestCrashes_ClaimsNeitherLostNorDoubled checks that crashes neither lose nor duplicate claims.
// It kills the gateway repeatedly while customers redeem codes, crashes Postgres, flushes Redis
// and restores older snapshots of it. A valid code in time is granted once. If Redis lost the
// code, the customer is asked to get a new one, and never gets the reply that the code was wrong.
//
// With HYDRAGATE_TEST_LONG=1 it runs until there were a thousand claims, three hundred kills, ten
// crashes and a hundred restored snapshots.
func TestCrashes_ClaimsNeitherLostNorDoubled(t *testing.T) {
	harness.ParallelUnlessFull(t)
	want := harness.CrashLimits{Claims: 20, Kills: 6, Crashes: 1, RedisRestores: 4}
	if harness.FullRun() {
		want = harness.CrashLimits{Claims: 1000, Kills: 300, Crashes: 10, RedisRestores: 100}
	}
	r := harness.NewCrashFixture(t, "")
	r.Limit = want
	r.Run(t)
	t.Log(r)
	if r.WrongReplies.Load() > 0 || r.UnexplainedLosses.Load() > 0 || r.DuplicateGrants(t) > 0 {
		t.Errorf("valid codes in time: %d rejected, %d lost without a cause, %d granted twice; want 0",
			r.WrongReplies.Load(), r.UnexplainedLosses.Load(), r.DuplicateGrants(t))
	}
	r.RequireNoCodesStored(t)
}

// TestCrashes_ConsumingStoreControl is the control: the same load and kills, with a gateway that
// deletes a code when it checks it. It must lose claims.
func TestCrashes_ConsumingStoreControl(t *testing.T) {
	harness.ParallelUnlessFull(t)
	r := harness.NewCrashFixture(t, harness.ConsumingCodes)
	r.Limit = harness.CrashLimits{Claims: 400, Kills: 200}
	r.StopEarly = func() bool { return r.WrongReplies.Load()+r.UnexplainedLosses.Load() > 0 }
	r.Run(t)
	t.Log(r)
	if r.WrongReplies.Load()+r.UnexplainedLosses.Load() == 0 {
		t.Error("lost claims = 0, want some when a check consumes the code")
	}
}
