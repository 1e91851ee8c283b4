package store

import (
	"errors"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// createAgedOwner creates an owner who was verified the given number of days ago, and sets the policy
// of the instance.
func (f *fixture) createAgedOwner(external string, days int, policy identity.VerificationPolicy) (customer, id string) {
	f.t.Helper()
	customer, id = f.createCustomerIdentity(external)
	mustExec(f.t, f.Store, `update identities set verified_at = $2, role_override = 'owner' where id = $1`, id,
		f.now().AddDate(0, 0, -days))
	e := gateway.InstanceEdit{
		OwnerDays:      &policy.OwnerDays,
		CustomerDays:   &policy.CustomerDays,
		InactivityDays: &policy.InactivityDays,
	}
	i, err := f.EditInstance(f.t.Context(), f.tenant, f.instance, e, "key:test")
	if err != nil || i.VerificationPolicy != policy {
		f.t.Fatalf("EditInstance() = %+v, %v", i, err)
	}
	return customer, id
}

func (f *fixture) ownerIdentity(customer, id string) identity.Identity {
	f.t.Helper()
	i, err := f.Identity(f.t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id})
	if err != nil {
		f.t.Fatal(err)
	}
	return i
}

// TestVerification_ReclaimAfterExpiry tests that no code is issued while the verification is valid,
// that issuing one after its expiry withdraws the verification, and that the claim restores it.
func TestVerification_ReclaimAfterExpiry(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createAgedOwner("1", 29, identity.VerificationPolicy{OwnerDays: 30})
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatalf("IssueCode() while verified = %v, want ErrAlreadyVerified", err)
		}
		if i := f.ownerIdentity(customer, id); i.Role() != identity.Owner {
			t.Fatalf("identity after the rejection = %+v, want an owner", i)
		}
		mustExec(t, f.Store, `update identities set verified_at = $2 where id = $1`, id, f.now().AddDate(0, 0, -31))
		target, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		i := f.ownerIdentity(customer, id)
		if st := (identity.VerificationPolicy{}).EffectiveRole(i, f.now()); i.IsVerified() ||
			st.Reason != identity.VerificationExpired {
			t.Fatalf("identity = %+v, state = %+v, want an expired verification", i, st)
		}
		f.insertMessages(f.arrival("1", "again", "/claim ******"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		in := f.pending(l)[0]
		if !in.HasLiveCode {
			t.Fatal("HasLiveCode = false, want true")
		}
		a := claim.Attempt{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", SenderID: "1", IdentityID: id,
			MessageID: in.ID, ReceivedAt: in.ReceivedAt,
		}
		if st, err := f.CodeState(t.Context(), a); err != nil || st.Verified || st.Status != claim.Live {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		f.apply(gateway.Commit{
			Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "claimed"}},
			Claim: &claim.Decision{Outcome: claim.Granted, Grant: &target, Attempt: a},
		})
		i = f.ownerIdentity(customer, id)
		if i.Role() != identity.Owner || i.ExpiryReason != "" || f.now().Sub(i.VerifiedAt) > time.Hour {
			t.Fatalf("identity = %+v, want a verified owner", i)
		}
		if st, err := f.CodeState(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		var kinds []string
		for _, e := range auditLog(t, f.Store, f.tenant) {
			if e.Kind == "identity.unverified" && e.Detail["reason"] == "expired" || e.Kind == "claim.issued" {
				kinds = append(kinds, e.Kind)
			}
		}
		if len(kinds) != 2 {
			t.Errorf("events = %v, want identity.unverified and claim.issued", kinds)
		}
	})
}

// TestVerification_StrictestPolicy tests that the strictest policy of all instances applies to an
// identity that is valid for all instances.
func TestVerification_StrictestPolicy(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createAgedOwner("1", 31, identity.VerificationPolicy{})
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatal(err)
		}
		strict := newInstance(t, f.Store, f.tenant)
		one, month := 1, 30
		if _, err := f.EditInstance(t.Context(), f.tenant, strict.ID,
			gateway.InstanceEdit{OwnerDays: &one, CustomerDays: &month}, "key:test"); err != nil {
			t.Fatal(err)
		}
		a := claim.Attempt{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", SenderID: "1", IdentityID: id,
			MessageID: newID(), ReceivedAt: f.now(),
		}
		if st, err := f.CodeState(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		a.InstanceID = strict.ID
		if st, err := f.CodeState(t.Context(), a); err != nil || st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		mustExec(t, f.Store, `update identities set instance_id = $2 where id = $1`, id, f.instance)
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatalf("IssueCode() with a stricter policy of another instance = %v, want ErrAlreadyVerified", err)
		}
		mustExec(t, f.Store, `update identities set instance_id = null where id = $1`, id)
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIssue_LimitKeepsVerification tests that the verification is kept if no code can be issued.
func TestIssue_LimitKeepsVerification(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createCustomerIdentity("1")
		for range maxIssuedPer15Min {
			if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
				"key:test"); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, f.Store,
			`update identities set verified_at = $2, role_override = 'owner', doubt = 'silence' where id = $1`, id, f.now())
		var many *claim.TooManyCodesError
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.As(err, &many) {
			t.Fatal(err)
		}
		if !f.ownerIdentity(customer, id).IsVerified() {
			t.Error("the verification was withdrawn although no code was issued")
		}
	})
}

func TestVerification_AccountChangeExpires(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture, l gateway.Lease, in gateway.StoredMessage)
		want   identity.ExpiryReason
	}{
		"opted out": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.apply(gateway.Commit{
				Lease: l, Release: true,
				Unreachable: &gateway.Unreachable{
					ConversationID: l.ConversationID, OptedOut: true,
					ExpiryReason: identity.ExpiredByOptOut,
				},
			})
		}, identity.ExpiredByOptOut},
		"account deactivated": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.apply(gateway.Commit{
				Lease: l, Release: true,
				Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID, ExpiryReason: identity.ExpiredByTermination},
			})
		}, identity.ExpiredByTermination},
		"bot blocked": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.apply(gateway.Commit{Lease: l, Release: true, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID}})
		}, ""},
		"inactivity": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.apply(gateway.Commit{
				Lease: l, Release: true,
				IdentityUpdates: []gateway.IdentityUpdate{{
					IdentityID: in.Sender.ID, ExpiryReason: identity.ExpiredByInactivity,
					UpdateLastSeen: true, ReclaimNotified: true,
				}},
			})
		}, identity.ExpiredByInactivity},
		"opted out by a receipt": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.applyReceipt(l, adapters.Receipt{ProviderID: "p1", Status: adapters.Failed, Code: "21610", OptedOut: true})
			if i := f.pendingSender(l); i.OptedOutAt.IsZero() {
				f.t.Error("the recipient did not opt out")
			}
		}, identity.ExpiredByOptOut},
		"opted in again": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.apply(gateway.Commit{Lease: l, Unreachable: &gateway.Unreachable{
				ConversationID: l.ConversationID, OptedOut: true, ExpiryReason: identity.ExpiredByOptOut,
			}})
			no := false
			f.apply(gateway.Commit{
				Lease: l, IdentityUpdates: []gateway.IdentityUpdate{{IdentityID: in.Sender.ID, OptedOut: &no}},
			})
			if i := f.pendingSender(l); !i.OptedOutAt.IsZero() || i.Role() != identity.Owner || i.ExpiryReason != "" {
				f.t.Errorf("sender = %+v, want an owner again", i)
			}
			f.apply(gateway.Commit{Lease: l, Release: true, IdentityUpdates: []gateway.IdentityUpdate{
				{IdentityID: in.Sender.ID, ExpiryReason: identity.ExpiredByTermination},
				{IdentityID: in.Sender.ID, OptedOut: &no},
			}})
		}, identity.ExpiredByTermination},
		"number disconnected": {func(f *fixture, l gateway.Lease, in gateway.StoredMessage) {
			f.applyReceipt(l, adapters.Receipt{ProviderID: "p1", Status: adapters.Failed, Code: "30005", Gone: true})
		}, identity.ExpiredByTermination},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				customer, id := f.createAgedOwner("1", 1, identity.VerificationPolicy{})
				f.insertMessages(f.arrival("1", "m1", "hello"))
				l := f.lease(gateway.InboxQueue, "one")[0]
				in := f.pending(l)[0]
				f.apply(gateway.Commit{Lease: l, Participant: &gateway.ConversationParticipant{
					ConversationID: l.ConversationID, TenantID: f.tenant,
					Address: identity.Address{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "1"},
				}})
				c.change(f, l, in)
				if i := f.ownerIdentity(customer, id); i.ExpiryReason != c.want || !i.IsVerified() {
					t.Fatalf("identity = %+v, want expiry reason %q", i, c.want)
				}
				count := 0
				for _, e := range auditLog(t, f.Store, f.tenant) {
					if e.Kind == "identity.doubted" && e.IdentityID == id && e.Detail["reason"] == string(c.want) {
						count++
					}
				}
				if (c.want != "") != (count == 1) {
					t.Errorf("%d events with the reason %q", count, c.want)
				}
				_, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
					"key:test")
				if (c.want == "") != errors.Is(err, identity.ErrAlreadyVerified) {
					t.Errorf("IssueCode() = %v", err)
				}
			})
		})
	}
}

// applyReceipt stores a reply in the conversation of a lease, and a receipt for it twice.
func (f *fixture) applyReceipt(l gateway.Lease, r adapters.Receipt) {
	f.t.Helper()
	row := gateway.OutboxRow{
		ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance,
		Channel: adapters.Telegram, Recipient: "1", Text: "x", Cause: "agent",
	}
	f.apply(gateway.Commit{Lease: l, Replies: []gateway.OutboxRow{row}})
	mustExec(f.t, f.Store, `update outbox set provider_id = $2 where id = $1`, row.ID, r.ProviderID)
	ep := adapters.Endpoint{TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram}
	for range 2 {
		if err := f.ApplyReceipts(f.t.Context(), ep, []adapters.Receipt{r}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// pendingSender returns the sender of the first pending message of a lease.
func (f *fixture) pendingSender(l gateway.Lease) identity.Identity {
	f.t.Helper()
	return f.pending(l)[0].Sender
}

func TestInbound_VerificationState(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		policy := identity.VerificationPolicy{OwnerDays: 30, CustomerDays: 90, InactivityDays: 60}
		_, id := f.createAgedOwner("1", 31, policy)
		lastSeen := f.now().AddDate(0, 0, -61).Truncate(time.Second)
		mustExec(t, f.Store, `update identities set last_heard_at = $2, reclaim_told_at = $2 where id = $1`, id, lastSeen)
		f.insertMessages(f.arrival("1", "m1", "hello"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		in := f.pending(l)[0]
		if in.Instance.VerificationPolicy != policy || !in.Sender.LastSeenAt.Equal(lastSeen) || !in.ReclaimNotified ||
			in.Sender.ExpiryReason != "" {
			t.Errorf("pending message = %+v", in)
		}
		f.apply(gateway.Commit{
			Lease: l, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}},
			IdentityUpdates: []gateway.IdentityUpdate{{IdentityID: id, ExpiryReason: identity.ExpiredByInactivity}},
			Deliveries: []gateway.Delivery{{
				ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID,
				InstanceID: f.instance, MessageID: in.ID, Type: "message.received",
			}},
		})
		es, err := f.PendingEvents(t.Context(), l)
		if err != nil || len(es) != 1 || es[0].Sender.ExpiryReason != identity.ExpiredByInactivity ||
			es[0].VerificationPolicy.OwnerDays != 30 || es[0].VerificationPolicy.CustomerDays != 90 {
			t.Errorf("PendingEvents() = %+v, %v", es, err)
		}
	})
}
