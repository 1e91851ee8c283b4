package claims

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"hydragate/claim"
	"hydragate/e2e/harness"
)

// errUnavailable is what a store says that is down.
var errUnavailable = errors.New("down")

// A flakyCodeStore store of proofs does not answer the first times it is asked.
type flakyCodeStore struct {
	claim.CodeStore
	failures atomic.Int64
}

func (m *flakyCodeStore) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	if m.failures.Add(-1) >= 0 {
		return claim.CheckResult{}, errUnavailable
	}
	return m.CodeStore.Check(ctx, s, typedIn, code, message)
}

// A flakyClaimStore ledger fails when it is asked for the times set.
type flakyClaimStore struct {
	claim.Store
	calls    atomic.Int64
	from, to int64 // fails from this time on, up to this one
}

func (f *flakyClaimStore) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	if n := f.calls.Add(1); n >= f.from && n <= f.to {
		return claim.CodeState{}, errUnavailable
	}
	return f.Store.CodeState(ctx, a)
}

// TestUnavailableStores_NoClaimLost lets the stores fail a claim many times before they recover:
// a right code in time is granted in the end. A claim that nothing was ever found out
// about is answered, not forgotten.
func TestUnavailableStores_NoClaimLost(t *testing.T) {
	for _, tt := range []struct {
		name             string
		proofs, from, to int64
		looks            int
		want             string
	}{
		{"the proofs are silent for twenty looks", 20, 0, 0, 21, "claimed"},
		{"the database fails once", 0, 1, 1, 2, "claimed"},
		{"the proofs are silent for ten looks, then the database fails once", 10, 11, 11, 12, "claimed"},
		{"control: the proofs are never there", 1000, 0, 0, 30, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
				p := h.CreateIdentity("700061")
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				proofs := &flakyCodeStore{CodeStore: h.Claims.Codes}
				proofs.failures.Store(tt.proofs)
				w := h.NewWorker(&claim.Service{Store: &flakyClaimStore{Store: h.Store, from: tt.from, to: tt.to}, Codes: proofs}, h.Store)
				for range tt.looks {
					h.Exec(`update lanes set due_at = lease_until where due_at is not null and lease_until <= due_at`) // the wait is over
					h.ProcessOnce(w)
				}
				if got := h.Outcome(key); got != tt.want {
					t.Errorf("outcome %q; want %q", got, tt.want)
				}
			})
		})
	}
}
