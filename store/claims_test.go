package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// TestIssue_ActorLimitUnderConcurrency issues the last code that an actor may issue within an hour,
// and another one before the first is committed.
func TestIssue_ActorLimitUnderConcurrency(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		const by = identity.Actor("key:stolen")
		for range maxIssuedPerHour - 1 {
			if err := f.Audit(t.Context(), identity.Event{
				TenantID: f.tenant, Kind: "claim.issued", Actor: by,
				IdentityID: newID(),
			}); err != nil {
				t.Fatal(err)
			}
		}
		steve, his := f.createCustomerIdentity("7")
		matt, other := f.createCustomerIdentity("8")
		second := make(chan error, 1)
		err := f.db.InTx(t.Context(), func(tx sqldb.DB) error {
			if _, _, err := f.issueCodeTx(t.Context(), tx, f.tenant, steve, his, by); err != nil {
				return err
			}
			go func() {
				_, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: matt, IdentityID: other}, by)
				second <- err
			}()
			select { // the second call waits for the first or has returned
			case err := <-second:
				second <- err
			case <-time.After(200 * time.Millisecond):
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var tooMany *claim.TooManyCodesError
		if err := <-second; !errors.As(err, &tooMany) {
			t.Errorf("IssueCode() over the limit = %v, want TooManyCodesError", err)
		}
	})
}

// fixedChecker is a code store in which each code belongs to another identity.
type fixedChecker struct {
	claim.CodeStore
	claim.CheckResult
}

func (f fixedChecker) Check(context.Context, claim.Target, string, string, string) (claim.CheckResult, error) {
	return f.CheckResult, nil
}

// TestClaim_WrongSenderEventNamesOwner lets Matt type Steve's code, which revokes the code. The event
// is recorded for Steve, and Matt's audit log and export do not reveal anything about Steve.
func TestClaim_WrongSenderEventNamesOwner(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve, his := f.createCustomerIdentity("7")
		matt, _ := f.createCustomerIdentity("8")
		issued, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: his},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		a, st := f.startRedemption("8", "WDJBMJ")
		r, err := (&claim.Service{
			Store: f.Store,
			Codes: fixedChecker{CheckResult: claim.CheckResult{
				Result: claim.Missing, Other: claim.Target{IdentityID: his, Gen: issued.Gen},
			}},
		}).DecideRedemption(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		st.Claim = &r
		f.apply(st)
		for customer, want := range map[string]int{steve: 1, matt: 0} {
			es, err := f.AuditEvents(t.Context(), f.tenant, identity.EventQuery{
				CustomerID: customer,
				Kind:       "claim.wrong_sender",
			}, "", 10)
			if err != nil || len(es) != want {
				t.Errorf("customer %s has %d events, %v, want %d", customer, len(es), err, want)
			}
			for _, e := range es {
				if e.IdentityID != his || e.Detail["typed_by"] != a.IdentityID {
					t.Errorf("event = %+v", e)
				}
			}
		}
	})
}

// startClaim issues a code and stores a claim message from the identity.
func (f *fixture) startClaim(external string) (claim.Target, claim.Attempt, gateway.Lease) {
	f.t.Helper()
	customer, id := f.createCustomerIdentity(external)
	target, expires, err := f.IssueCode(f.t.Context(),
		identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id}, "key:test")
	if err != nil {
		f.t.Fatal(err)
	}
	if d := time.Until(expires); d < 14*time.Minute || d > 16*time.Minute {
		f.t.Fatalf("code expires in %v, want about 15m", d)
	}
	f.insertMessages(f.arrival(external, "claim"+external, "/claim ******"))
	for _, l := range f.lease(gateway.InboxQueue, "one") {
		for _, in := range f.pending(l) {
			if in.Message.Sender.ID == external {
				if !in.HasLiveCode {
					f.t.Fatal("HasLiveCode = false, want true")
				}
				return target, claim.Attempt{
					TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", SenderID: external,
					IdentityID: id, MessageID: in.ID, ReceivedAt: in.ReceivedAt,
				}, l
			}
		}
	}
	f.t.Fatal("message not found")
	return target, claim.Attempt{}, gateway.Lease{}
}

func TestApply_ClaimFenced(t *testing.T) {
	for name, change := range map[string]string{
		"valid code":        ``,
		"code reissued":     `update identities set claim_gen = claim_gen + 1`,
		"code used":         `update identities set claim_used_msg = id`,
		"code revoked":      `update identities set claim_revoked_at = claim_expires_at`,
		"code expired":      `update identities set claim_expires_at = '2020-01-01 00:00:00+00:00'`,
		"identity verified": `update identities set verified_at = claim_expires_at`,
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				target, a, l := f.startClaim("1")
				st, err := f.CodeState(t.Context(), a)
				if err != nil || st.Status != claim.Live || st.Target != target {
					t.Fatalf("CodeState() = %+v, %v, want live %+v", st, err, target)
				}
				if change != "" {
					if _, err := f.db.Exec(t.Context(), change); err != nil {
						t.Fatal(err)
					}
				}
				err = f.Apply(t.Context(), gateway.Commit{
					Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: a.MessageID, Outcome: "claimed"}},
					Claim: &claim.Decision{Outcome: claim.Granted, Grant: &target, Attempt: a},
				})
				if change != "" {
					if !errors.Is(err, gateway.ErrFenced) {
						t.Fatalf("Apply() = %v, want ErrFenced", err)
					}
					if len(f.pending(l)) != 1 {
						t.Fatal("the message was processed although the grant was rejected")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				i, email, err := f.Lookup(t.Context(), identity.Address{
					TenantID: f.tenant, InstanceID: f.instance,
					Channel: "telegram", ExternalID: "1",
				})
				if err != nil || i.Role() != identity.Owner || email != "" {
					t.Fatalf("Lookup() = %+v, %v, want an owner", i, err)
				}
				if st, err := f.CodeState(t.Context(), a); err != nil || !st.Verified || st.UsedBy != a.MessageID {
					t.Fatalf("CodeState() after the claim = %+v, %v", st, err)
				}
			})
		})
	}
}

func TestIssue_Limits(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createCustomerIdentity("1")
		for n := range 5 {
			s, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
				"key:test")
			if err != nil || s.Gen != int64(n+1) {
				t.Fatalf("code %d: generation = %d, %v", n+1, s.Gen, err)
			}
		}
		_, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		var many *claim.TooManyCodesError
		if !errors.As(err, &many) || many.RetryAfter <= 0 || many.RetryAfter > 15*time.Minute {
			t.Fatalf("IssueCode() over the limit = %v, want TooManyCodesError", err)
		}
		_, other := f.createCustomerIdentity("2")
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: other},
			"key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("IssueCode(identity of another customer) = %v, want ErrNotFound", err)
		}
	})
}

func TestState_CountsFailures(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		_, a, l := f.startClaim("1")
		for i := range 6 {
			a.MessageID = newID()
			f.apply(gateway.Commit{Lease: l, Claim: &claim.Decision{Outcome: claim.Declined, CountsAsFailure: true, Attempt: a}})
			f.apply(gateway.Commit{Lease: l, Claim: &claim.Decision{
				Outcome: claim.Declined, CountsAsFailure: true,
				Attempt: a,
			}}) // counted once
			other := a
			other.MessageID = newID()
			st, err := f.CodeState(t.Context(), other)
			if err != nil || st.Failures.QuarterHour != i+1 || st.Failures.Day != i+1 {
				t.Fatalf("failures after %d attempts = %+v, %v", i+1, st.Failures, err)
			}
			if wait := st.Failures.RetryAfter; (wait > 0) != (i+1 >= claim.MaxFailuresPerQuarterHour) || wait > 15*time.Minute {
				t.Fatalf("RetryAfter after %d attempts = %v", i+1, wait)
			}
		}
		other := a
		other.SenderID, other.MessageID = "2", newID()
		if st, err := f.CodeState(t.Context(), other); err != nil || st.Failures.Day != 0 {
			t.Fatalf("failures of another sender = %+v, %v, want none", st.Failures, err)
		}
	})
}

func TestApply_ClaimOfDeletedIdentity(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		target, a, l := f.startClaim("1")
		if _, err := f.db.Exec(t.Context(), `delete from identities where tenant_id = $1 and id = $2`, f.tenant,
			a.IdentityID); err != nil {
			t.Fatal(err)
		}
		err := f.Apply(t.Context(),
			gateway.Commit{Lease: l, Claim: &claim.Decision{Outcome: claim.Granted, Grant: &target, Attempt: a}})
		if !errors.Is(err, gateway.ErrFenced) {
			t.Fatalf("Apply() = %v, want ErrFenced", err)
		}
	})
}
