package claims

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"hydragate/claim"
	"hydragate/e2e/harness"
)

// errUnavailable is the error of a store that is down.
var errUnavailable = errors.New("down")

// flakyCodeStore is a code store whose first checks fail.
type flakyCodeStore struct {
	claim.CodeStore
	failures atomic.Int64
}

func (m *flakyCodeStore) Check(
	ctx context.Context,
	s claim.Target,
	typedIn, code, message string,
) (claim.CheckResult, error) {
	if m.failures.Add(-1) >= 0 {
		return claim.CheckResult{}, errUnavailable
	}
	return m.CodeStore.Check(ctx, s, typedIn, code, message)
}

// flakyClaimStore is a claim store that fails its calls number from through to.
type flakyClaimStore struct {
	claim.Store
	calls    atomic.Int64
	from, to int64 // the first and the last call that fail
}

func (f *flakyClaimStore) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	if n := f.calls.Add(1); n >= f.from && n <= f.to {
		return claim.CodeState{}, errUnavailable
	}
	return f.Store.CodeState(ctx, a)
}

// TestUnavailableStores_NoClaimLost checks that a valid code in time is granted although the
// stores fail many attempts to process it.
func TestUnavailableStores_NoClaimLost(t *testing.T) {
	for _, tt := range []struct {
		name               string
		failures, from, to int64 // failed checks, and the first and last failed read of the code state
		attempts           int
		want               string
	}{
		{"code store unavailable for twenty attempts", 20, 0, 0, 21, "claimed"},
		{"database fails once", 0, 1, 1, 2, "claimed"},
		{"code store unavailable for ten attempts, then database fails once", 10, 11, 11, 12, "claimed"},
		{"control: code store never available", 1000, 0, 0, 30, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
				p := h.CreateIdentity("700061")
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				codes := &flakyCodeStore{CodeStore: h.Claims.Codes}
				codes.failures.Store(tt.failures)
				store := &flakyClaimStore{Store: h.Store, from: tt.from, to: tt.to}
				w := h.NewWorker(&claim.Service{Store: store, Codes: codes}, h.Store)
				for range tt.attempts {
					// End the retry delay.
					h.Exec(`update lanes set due_at = lease_until where due_at is not null and lease_until <= due_at`)
					h.ProcessOnce(w)
				}
				if got := h.Outcome(key); got != tt.want {
					t.Errorf("outcome = %q, want %q", got, tt.want)
				}
			})
		})
	}
}
