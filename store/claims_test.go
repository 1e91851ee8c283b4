package store

import (
	"context"
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

// found are Proofs that know a code as somebody else's.
type found struct {
	claim.Proofs
	claim.Finding
}

func (f found) Check(context.Context, claim.Subject, string, string, string) (claim.Finding, error) {
	return f.Finding, nil
}

// TestWrongSenderIsToldOfTheOwner has Matt type Steve's code. It is Steve's customer whose
// code is burnt: the event is his, and Matt's audit log and export know nothing of Steve.
func TestWrongSenderIsToldOfTheOwner(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		steve, his := h.steve("7")
		matt, _ := h.steve("8")
		issued, _, err := h.Issue(t.Context(), tenant, steve, his, "key:test")
		if err != nil {
			t.Fatal(err)
		}
		a, st := h.opening("8", "WDJBMJ")
		r, err := (&claim.Desk{Ledger: h.Store, Proofs: found{Finding: claim.Finding{Verdict: claim.Missing, Whose: his, WhoseGen: issued.Gen}}}).Rule(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		st.Claim = &r
		h.settle(st)
		for customer, want := range map[string]int{steve: 1, matt: 0} {
			es, err := h.AuditEvents(t.Context(), tenant, identity.EventQuery{CustomerID: customer, Kind: "claim.wrong_sender"}, "", 10)
			if err != nil || len(es) != want {
				t.Errorf("%d events of customer %s, %v; want %d", len(es), customer, err, want)
			}
			for _, e := range es {
				if e.IdentityID != his || e.Detail["typed_by"] != a.IdentityID {
					t.Errorf("%+v", e)
				}
			}
		}
	})
}
