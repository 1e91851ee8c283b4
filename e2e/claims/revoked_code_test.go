package claims

import (
	"testing"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestRevokedCode_NotRedeemed checks that a code that staff revoked does not work, although it is still
// in the code store, that a code issued after it does, and that the state names both.
func TestRevokedCode_NotRedeemed(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity(h.NewExternalID())
		k := identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}
		redeem := func(code, outcome string, state claim.CodeStatusState) {
			t.Helper()
			key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			if got := h.Outcome(key); got != outcome {
				t.Errorf("outcome = %q, want %q", got, outcome)
			}
			if got, err := h.Store.CodeStatus(t.Context(), k, ""); err != nil || got.State != state {
				t.Errorf("CodeStatus() = %s, %v, want %s", got.State, err, state)
			}
		}
		revoked := h.IssueCode(p)
		for range 2 { // the second call changes nothing
			if _, err := h.Store.RevokeCode(t.Context(), k, "key:matt"); err != nil {
				t.Fatal(err)
			}
		}
		redeem(revoked, "declined", claim.StateRevoked)
		redeem(h.IssueCode(p), "claimed", claim.StateRedeemed)
		var n int
		h.Scan(`select count(*) from audit_events where identity_id = $1 and kind = 'claim.revoked'`, []any{p.IdentityID}, &n)
		if n != 1 {
			t.Errorf("%d events claim.revoked, want 1", n)
		}
	})
}
