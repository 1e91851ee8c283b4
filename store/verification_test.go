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
func (h fixture) createAgedOwner(external string, days int, f identity.VerificationPolicy) (customer, id string) {
	h.t.Helper()
	customer, id = h.createCustomerIdentity(external)
	mustExec(h.t, h.Store, `update identities set verified_at = $2, role_override = 'owner' where id = $1`, id,
		h.now().AddDate(0, 0, -days))
	e := gateway.InstanceEdit{OwnerDays: &f.OwnerDays, CustomerDays: &f.CustomerDays, InactivityDays: &f.InactivityDays}
	i, err := h.EditInstance(h.t.Context(), tenant, h.instance, e, "key:test")
	if err != nil || i.VerificationPolicy != f {
		h.t.Fatalf("EditInstance() = %+v, %v", i, err)
	}
	return customer, id
}

func (h fixture) ownerIdentity(customer, id string) identity.Identity {
	h.t.Helper()
	i, err := h.Identity(h.t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id})
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

// TestVerification_ReclaimAfterExpiry tests that no code is issued while the verification is valid,
// that issuing one after its expiry withdraws the verification, and that the claim restores it.
func TestVerification_ReclaimAfterExpiry(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createAgedOwner("1", 29, identity.VerificationPolicy{OwnerDays: 30})
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatalf("IssueCode() while verified = %v, want ErrAlreadyVerified", err)
		}
		if i := h.ownerIdentity(customer, id); i.Role() != identity.Owner {
			t.Fatalf("identity after the rejection = %+v, want an owner", i)
		}
		mustExec(t, h.Store, `update identities set verified_at = $2 where id = $1`, id, h.now().AddDate(0, 0, -31))
		target, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		i := h.ownerIdentity(customer, id)
		if st := (identity.VerificationPolicy{}).EffectiveRole(i, h.now()); i.IsVerified() ||
			st.Reason != identity.VerificationExpired {
			t.Fatalf("identity = %+v, state = %+v, want an expired verification", i, st)
		}
		h.insertMessages(h.arrival("1", "again", "/claim ******"))
		l := h.lease(gateway.InboxQueue, "one")[0]
		in := h.inbound(l)[0]
		if !in.HasLiveCode {
			t.Fatal("HasLiveCode = false, want true")
		}
		a := claim.Attempt{
			TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "1", IdentityID: id,
			MessageID: in.ID, ReceivedAt: in.ReceivedAt,
		}
		if st, err := h.CodeState(t.Context(), a); err != nil || st.Verified || st.Status != claim.Live {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		h.apply(gateway.Commit{
			Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "claimed"}},
			Claim: &claim.Decision{Outcome: claim.Granted, Grant: &target, Attempt: a},
		})
		i = h.ownerIdentity(customer, id)
		if i.Role() != identity.Owner || i.ExpiryReason != "" || h.now().Sub(i.VerifiedAt) > time.Hour {
			t.Fatalf("identity = %+v, want a verified owner", i)
		}
		if st, err := h.CodeState(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		var kinds []string
		for _, e := range auditLog(t, h.Store, tenant) {
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
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createAgedOwner("1", 31, identity.VerificationPolicy{})
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatal(err)
		}
		strict := newInstance(t, h.Store, tenant)
		one, month := 1, 30
		if _, err := h.EditInstance(t.Context(), tenant, strict.ID,
			gateway.InstanceEdit{OwnerDays: &one, CustomerDays: &month}, "key:test"); err != nil {
			t.Fatal(err)
		}
		a := claim.Attempt{
			TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "1", IdentityID: id,
			MessageID: newID(), ReceivedAt: h.now(),
		}
		if st, err := h.CodeState(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		a.InstanceID = strict.ID
		if st, err := h.CodeState(t.Context(), a); err != nil || st.Verified {
			t.Fatalf("CodeState() = %+v, %v", st, err)
		}
		mustExec(t, h.Store, `update identities set instance_id = $2 where id = $1`, id, h.instance)
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.Is(err,
			identity.ErrAlreadyVerified) {
			t.Fatalf("IssueCode() with a stricter policy of another instance = %v, want ErrAlreadyVerified", err)
		}
		mustExec(t, h.Store, `update identities set instance_id = null where id = $1`, id)
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIssue_LimitKeepsVerification tests that the verification is kept if no code can be issued.
func TestIssue_LimitKeepsVerification(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createCustomerIdentity("1")
		for range maxIssuedPer15Min {
			if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
				"key:test"); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, h.Store,
			`update identities set verified_at = $2, role_override = 'owner', doubt = 'silence' where id = $1`, id, h.now())
		var many *claim.TooManyCodesError
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test"); !errors.As(err, &many) {
			t.Fatal(err)
		}
		if !h.ownerIdentity(customer, id).IsVerified() {
			t.Error("the verification was withdrawn although no code was issued")
		}
	})
}

func TestVerification_AccountChangeExpires(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h fixture, l gateway.Lease, in gateway.StoredMessage)
		want   identity.ExpiryReason
	}{
		"opted out": {func(h fixture, l gateway.Lease, in gateway.StoredMessage) {
			h.apply(gateway.Commit{
				Lease: l, Release: true,
				Unreachable: &gateway.Unreachable{
					ConversationID: l.ConversationID, OptedOut: true,
					ExpiryReason: identity.ExpiredByOptOut,
				},
			})
		}, identity.ExpiredByOptOut},
		"account deactivated": {func(h fixture, l gateway.Lease, in gateway.StoredMessage) {
			h.apply(gateway.Commit{
				Lease: l, Release: true,
				Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID, ExpiryReason: identity.ExpiredByTermination},
			})
		}, identity.ExpiredByTermination},
		"bot blocked": {func(h fixture, l gateway.Lease, in gateway.StoredMessage) {
			h.apply(gateway.Commit{Lease: l, Release: true, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID}})
		}, ""},
		"inactivity": {func(h fixture, l gateway.Lease, in gateway.StoredMessage) {
			h.apply(gateway.Commit{
				Lease: l, Release: true,
				IdentityUpdates: []gateway.IdentityUpdate{{
					IdentityID: in.Sender.ID, ExpiryReason: identity.ExpiredByInactivity,
					UpdateLastSeen: true, ReclaimNotified: true,
				}},
			})
		}, identity.ExpiredByInactivity},
		"number disconnected": {func(h fixture, l gateway.Lease, in gateway.StoredMessage) {
			row := gateway.OutboxRow{
				ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance,
				Channel: adapters.Telegram, Recipient: "1", Text: "x", Cause: "agent",
			}
			h.apply(gateway.Commit{Lease: l, Release: true, Replies: []gateway.OutboxRow{row}})
			mustExec(h.t, h.Store, `update outbox set provider_id = 'p1' where id = $1`, row.ID)
			ep := adapters.Endpoint{TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram}
			for range 2 {
				if err := h.ApplyReceipts(h.t.Context(), ep,
					[]adapters.Receipt{{ProviderID: "p1", Status: adapters.Failed, Code: "30005", Gone: true}}); err != nil {
					h.t.Fatal(err)
				}
			}
		}, identity.ExpiredByTermination},
	} {
		t.Run(name, func(t *testing.T) {
			forEachEngineFixture(t, func(t *testing.T, h fixture) {
				customer, id := h.createAgedOwner("1", 1, identity.VerificationPolicy{})
				h.insertMessages(h.arrival("1", "m1", "hello"))
				l := h.lease(gateway.InboxQueue, "one")[0]
				in := h.inbound(l)[0]
				h.apply(gateway.Commit{Lease: l, Participant: &gateway.ConversationParticipant{
					ConversationID: l.ConversationID, TenantID: tenant,
					Address: identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: "1"},
				}})
				c.change(h, l, in)
				if i := h.ownerIdentity(customer, id); i.ExpiryReason != c.want || !i.IsVerified() {
					t.Fatalf("identity = %+v, want expiry reason %q", i, c.want)
				}
				count := 0
				for _, e := range auditLog(t, h.Store, tenant) {
					if e.Kind == "identity.doubted" && e.IdentityID == id && e.Detail["reason"] == string(c.want) {
						count++
					}
				}
				if (c.want != "") != (count == 1) {
					t.Errorf("%d events with the reason %q", count, c.want)
				}
				_, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
					"key:test")
				if (c.want == "") != errors.Is(err, identity.ErrAlreadyVerified) {
					t.Errorf("IssueCode() = %v", err)
				}
			})
		})
	}
}

func TestInbound_VerificationState(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		f := identity.VerificationPolicy{OwnerDays: 30, CustomerDays: 90, InactivityDays: 60}
		_, id := h.createAgedOwner("1", 31, f)
		lastSeen := h.now().AddDate(0, 0, -61).Truncate(time.Second)
		mustExec(t, h.Store, `update identities set last_heard_at = $2, reclaim_told_at = $2 where id = $1`, id, lastSeen)
		h.insertMessages(h.arrival("1", "m1", "hello"))
		l := h.lease(gateway.InboxQueue, "one")[0]
		in := h.inbound(l)[0]
		if in.Instance.VerificationPolicy != f || !in.Sender.LastSeenAt.Equal(lastSeen) || !in.ReclaimNotified ||
			in.Sender.ExpiryReason != "" {
			t.Errorf("pending message = %+v", in)
		}
		h.apply(gateway.Commit{
			Lease: l, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}},
			IdentityUpdates: []gateway.IdentityUpdate{{IdentityID: id, ExpiryReason: identity.ExpiredByInactivity}},
			Deliveries: []gateway.Delivery{{
				ID: newID(), TenantID: tenant, ConversationID: l.ConversationID,
				InstanceID: h.instance, MessageID: in.ID, Type: "message.received",
			}},
		})
		es, err := h.PendingEvents(t.Context(), l)
		if err != nil || len(es) != 1 || es[0].Sender.ExpiryReason != identity.ExpiredByInactivity ||
			es[0].VerificationPolicy.OwnerDays != 30 || es[0].VerificationPolicy.CustomerDays != 90 {
			t.Errorf("PendingEvents() = %+v, %v", es, err)
		}
	})
}
