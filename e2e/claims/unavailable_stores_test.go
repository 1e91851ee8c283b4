package claims

import (
	"context"
	"errors"
	"testing"

	"hydragate/claim"
	"hydragate/e2e/harness"
)

// TestUnavailableStores_NoClaimLost checks that a valid code in time is granted although the
// stores fail many attempts to process it.
func TestUnavailableStores_NoClaimLost(t *testing.T) {
	errUnavailable := errors.New("down")
	tests := []struct {
		name               string
		failures, from, to int64 // failed checks, and the first and last failed read of the code state
		attempts           int
		want               string
	}{
		{"code store unavailable for twenty attempts", 20, 0, 0, 21, "claimed"},
		{"database fails once", 0, 1, 1, 2, "claimed"},
		{"code store unavailable for ten attempts, then database fails once", 10, 11, 11, 12, "claimed"},
		{"control: code store never available", 1000, 0, 0, 30, ""},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(h.NewExternalID())
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				var checks, reads int64
				codes := hookedCodeStore{h.Claims.Codes, func(context.Context) error {
					if checks++; checks <= tt.failures {
						return errUnavailable
					}
					return nil
				}}
				store := hookedClaimStore{h.Store, func(context.Context, string) error {
					if reads++; tt.from <= reads && reads <= tt.to {
						return errUnavailable
					}
					return nil
				}}
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
		}
	})
}
