package store

import (
	"errors"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/identity"
)

// TestActorIssuesNoMoreAtOnce has one key, with one code left in its hour, issue another
// while the last is about to be kept.
func TestActorIssuesNoMoreAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		const by = identity.Actor("key:stolen")
		for range issuedPerHour - 1 {
			if err := h.Audit(t.Context(), identity.Event{TenantID: tenant, Kind: "claim.issued", Actor: by, IdentityID: newID()}); err != nil {
				t.Fatal(err)
			}
		}
		steve, his := h.steve("7")
		matt, other := h.steve("8")
		second := make(chan error, 1)
		err := h.db.InTx(t.Context(), func(tx db) error {
			if _, _, err := h.issue(t.Context(), tx, tenant, steve, his, by); err != nil {
				return err
			}
			go func() {
				_, _, err := h.Issue(t.Context(), tenant, matt, other, by)
				second <- err
			}()
			select { // it waits, or is done by now
			case err := <-second:
				second <- err
			case <-time.After(time.Second):
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var tooMany *claim.TooMany
		if err := <-second; !errors.As(err, &tooMany) {
			t.Errorf("a code more than an hour has: %v", err)
		}
	})
}
