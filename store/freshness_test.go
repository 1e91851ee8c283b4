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

// aged makes Steve's identity an owner verified so many days ago, at an instance of
// the policy given.
func (h house) aged(external string, days int, f identity.Freshness) (customer, id string) {
	h.t.Helper()
	customer, id = h.steve(external)
	mustExec(h.t, h.Store, `update identities set verified_at = $2, role_override = 'owner' where id = $1`, id, h.now().AddDate(0, 0, -days))
	e := gateway.InstanceEdit{OwnerDays: &f.OwnerDays, CustomerDays: &f.CustomerDays, SilenceDays: &f.SilenceDays}
	i, err := h.EditInstance(h.t.Context(), tenant, h.instance, e, "key:test")
	if err != nil || i.Freshness != f {
		h.t.Fatalf("%+v, %v", i, err)
	}
	return customer, id
}

func (h house) owner(customer, id string) identity.Identity {
	h.t.Helper()
	i, err := h.Identity(h.t.Context(), tenant, customer, id)
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

// TestExpiredCanBeClaimedAgain walks the whole way round: fresh is refused, expired
// gets a code that takes the verification back, and the claim brings it anew.
func TestExpiredCanBeClaimedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		customer, id := h.aged("1", 29, identity.Freshness{OwnerDays: 30})
		if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); !errors.Is(err, identity.ErrVerified) {
			t.Fatalf("a fresh one: %v", err)
		}
		if i := h.owner(customer, id); i.Role() != identity.Owner {
			t.Fatalf("refusing changed it: %+v", i)
		}
		mustExec(t, h.Store, `update identities set verified_at = $2 where id = $1`, id, h.now().AddDate(0, 0, -31))
		sub, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test")
		if err != nil {
			t.Fatal(err)
		}
		i := h.owner(customer, id)
		if st := (identity.Freshness{}).Standing(i, h.now()); i.IsVerified() || st.Reason != identity.VerificationExpired {
			t.Fatalf("%+v, %+v", i, st)
		}
		h.take(h.arrival("1", "again", "/claim ******"))
		l := h.lease(gateway.InboxLane, "one")[0]
		in := h.inbound(l)[0]
		if !in.CodeWaits {
			t.Fatal("no code waits")
		}
		a := claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "1", IdentityID: id, MessageID: in.ID, ReceivedAt: in.ReceivedAt}
		if st, err := h.State(t.Context(), a); err != nil || st.Verified || st.Fence != claim.Live {
			t.Fatalf("%+v, %v", st, err)
		}
		h.settle(gateway.Settlement{Lease: l, Release: true, Messages: []gateway.Settled{{ID: in.ID, Outcome: "claimed"}}, Claim: &claim.Ruling{Outcome: claim.Granted, Grant: &sub, Attempt: a}})
		i = h.owner(customer, id)
		if i.Role() != identity.Owner || i.Doubt != "" || h.now().Sub(i.VerifiedAt) > time.Hour {
			t.Fatalf("%+v", i)
		}
		if st, err := h.State(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("%+v, %v", st, err)
		}
		var kinds []string
		for _, e := range auditLog(t, h.Store, tenant) {
			if e.Kind == "identity.unverified" && e.Detail["reason"] == "expired" || e.Kind == "claim.issued" {
				kinds = append(kinds, e.Kind)
			}
		}
		if len(kinds) != 2 {
			t.Errorf("%v", kinds)
		}
	})
}

// An identity of every instance is as old as the strictest instance says; and one that
// expired is not told that it is verified.
func TestStrictestPolicyDecides(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		customer, id := h.aged("1", 31, identity.Freshness{})
		if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); !errors.Is(err, identity.ErrVerified) {
			t.Fatal(err)
		}
		strict := newInstance(t, h.Store, tenant)
		one, month := 1, 30
		if _, err := h.EditInstance(t.Context(), tenant, strict.ID, gateway.InstanceEdit{OwnerDays: &one, CustomerDays: &month}, "key:test"); err != nil {
			t.Fatal(err)
		}
		a := claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "1", IdentityID: id, MessageID: newID(), ReceivedAt: h.now()}
		if st, err := h.State(t.Context(), a); err != nil || !st.Verified {
			t.Fatalf("%+v, %v", st, err)
		}
		a.InstanceID = strict.ID
		if st, err := h.State(t.Context(), a); err != nil || st.Verified {
			t.Fatalf("%+v, %v", st, err)
		}
		mustExec(t, h.Store, `update identities set instance_id = $2 where id = $1`, id, h.instance)
		if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); !errors.Is(err, identity.ErrVerified) {
			t.Fatalf("another instance's policy: %v", err)
		}
		mustExec(t, h.Store, `update identities set instance_id = null where id = $1`, id)
		if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRefusedCodeChangesNothing presses too often: the verification stays.
func TestTooManyCodesLeaveTheVerification(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		customer, id := h.steve("1")
		for range issuedPerQuarter {
			if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, h.Store, `update identities set verified_at = $2, role_override = 'owner', doubt = 'silence' where id = $1`, id, h.now())
		var many *claim.TooMany
		if _, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test"); !errors.As(err, &many) {
			t.Fatal(err)
		}
		if !h.owner(customer, id).IsVerified() {
			t.Error("the verification is gone, and no code is there")
		}
	})
}

func TestSignsOfAnotherHand(t *testing.T) {
	for name, c := range map[string]struct {
		sign func(h house, l gateway.Lease, in gateway.Inbound)
		want identity.Doubt
	}{
		"OptedOut": {func(h house, l gateway.Lease, in gateway.Inbound) {
			h.settle(gateway.Settlement{Lease: l, Release: true, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID, OptedOut: true, Doubt: identity.Unwanted}})
		}, identity.Unwanted},
		"Deactivated": {func(h house, l gateway.Lease, in gateway.Inbound) {
			h.settle(gateway.Settlement{Lease: l, Release: true, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID, Doubt: identity.Terminated}})
		}, identity.Terminated},
		"MerelyBlocked": {func(h house, l gateway.Lease, in gateway.Inbound) {
			h.settle(gateway.Settlement{Lease: l, Release: true, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID}})
		}, ""},
		"Silence": {func(h house, l gateway.Lease, in gateway.Inbound) {
			h.settle(gateway.Settlement{Lease: l, Release: true, Seen: []gateway.Sighting{{IdentityID: in.Sender.ID, Doubt: identity.Silent, Heard: true, ReclaimTold: true}}})
		}, identity.Silent},
		"NobodyHasTheNumber": {func(h house, l gateway.Lease, in gateway.Inbound) {
			row := gateway.OutboxRow{ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance, Channel: adapters.Telegram, Recipient: "1", Text: "x", Cause: "agent"}
			h.settle(gateway.Settlement{Lease: l, Release: true, Replies: []gateway.OutboxRow{row}})
			mustExec(h.t, h.Store, `update outbox set provider_id = 'p1' where id = $1`, row.ID)
			ep := adapters.Endpoint{TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram}
			for range 2 {
				if err := h.Receive(h.t.Context(), ep, []adapters.Receipt{{ProviderID: "p1", Status: adapters.Failed, Code: "30005", Gone: true}}); err != nil {
					h.t.Fatal(err)
				}
			}
		}, identity.Terminated},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, h house) {
				customer, id := h.aged("1", 1, identity.Freshness{})
				h.take(h.arrival("1", "m1", "hello"))
				l := h.lease(gateway.InboxLane, "one")[0]
				in := h.inbound(l)[0]
				h.settle(gateway.Settlement{Lease: l, Person: &gateway.ConversationPerson{
					ConversationID: l.ConversationID, TenantID: tenant, Address: identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: "1"}}})
				c.sign(h, l, in)
				if i := h.owner(customer, id); i.Doubt != c.want || !i.IsVerified() {
					t.Fatalf("%+v; want doubt %q", i, c.want)
				}
				told := 0
				for _, e := range auditLog(t, h.Store, tenant) {
					if e.Kind == "identity.doubted" && e.IdentityID == id && e.Detail["reason"] == string(c.want) {
						told++
					}
				}
				if (c.want != "") != (told == 1) {
					t.Errorf("told %d times", told)
				}
				_, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test")
				if (c.want == "") != errors.Is(err, identity.ErrVerified) {
					t.Errorf("a new code: %v", err)
				}
			})
		})
	}
}

func TestInboundKnowsHowFreshTheSenderIs(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		f := identity.Freshness{OwnerDays: 30, CustomerDays: 90, SilenceDays: 60}
		_, id := h.aged("1", 31, f)
		heard := h.now().AddDate(0, 0, -61).Truncate(time.Second)
		mustExec(t, h.Store, `update identities set last_heard_at = $2, reclaim_told_at = $2 where id = $1`, id, heard)
		h.take(h.arrival("1", "m1", "hello"))
		l := h.lease(gateway.InboxLane, "one")[0]
		in := h.inbound(l)[0]
		if in.Instance.Freshness != f || !in.Sender.LastHeardAt.Equal(heard) || !in.ReclaimTold || in.Sender.Doubt != "" {
			t.Errorf("%+v", in)
		}
		h.settle(gateway.Settlement{
			Lease: l, Messages: []gateway.Settled{{ID: in.ID, Outcome: "forwarded"}}, Seen: []gateway.Sighting{{IdentityID: id, Doubt: identity.Silent}},
			Deliveries: []gateway.Delivery{{ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance, MessageID: in.ID, Type: "message.received"}},
		})
		es, err := h.Events(t.Context(), l)
		if err != nil || len(es) != 1 || es[0].Sender.Doubt != identity.Silent || es[0].Freshness.OwnerDays != 30 || es[0].Freshness.CustomerDays != 90 {
			t.Errorf("%+v, %v", es, err)
		}
	})
}
