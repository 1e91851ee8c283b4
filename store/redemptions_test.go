package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// startRedemption stores a claim message of a sender and returns the attempt as the worker creates
// it. A sender without an identity gets one with the commit.
func (f *fixture) startRedemption(sender, code string) (a claim.Attempt, st gateway.Commit) {
	f.t.Helper()
	f.insertMessages(f.arrival(sender, newID(), "/claim ******"))
	for _, l := range f.lease(gateway.InboxQueue, "one") {
		for _, in := range f.pending(l) {
			if in.Message.Sender.ID != sender {
				continue
			}
			st = gateway.Commit{Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "claimed"}}}
			a = claim.Attempt{
				TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", SenderID: sender,
				IdentityID: in.Sender.ID,
				MessageID:  in.ID, Code: code, ReceivedAt: in.ReceivedAt, InstanceIdentityID: in.Sender.ID,
			}
			if in.Sender.InstanceID == "" {
				a.InstanceIdentityID = newID()
				st.CreatedIdentities = []identity.Identity{{
					ID: a.InstanceIdentityID, TenantID: f.tenant, InstanceID: f.instance,
					Channel: "telegram", ExternalID: sender,
				}}
			}
			if a.IdentityID == "" {
				a.IdentityID = a.InstanceIdentityID
			}
			return a, st
		}
	}
	f.t.Fatal("message not found")
	return a, st
}

func (f *fixture) decideRedemption(a claim.Attempt) claim.Decision {
	f.t.Helper()
	r, err := (&claim.Service{Store: f.Store}).DecideRedemption(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// redeem processes the attempt of a sender to redeem an invite and returns the decision.
func (f *fixture) redeem(sender, code string) claim.Decision {
	f.t.Helper()
	a, st := f.startRedemption(sender, code)
	r := f.decideRedemption(a)
	st.Claim = &r
	st.Participant = &gateway.ConversationParticipant{
		ConversationID: st.Lease.ConversationID, TenantID: f.tenant,
		Address: identity.Address{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: sender},
	}
	f.apply(st)
	return r
}

func (f *fixture) senderIdentity(sender string) identity.Identity {
	f.t.Helper()
	i, _, err := f.Lookup(f.t.Context(), identity.Address{
		TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
		ExternalID: sender,
	})
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		f.t.Fatal(err)
	}
	return i
}

// TestInvite_RedeemLinksSender redeems invites with accounts in all possible states.
func TestInvite_RedeemLinksSender(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(f *fixture, customer string)
		want    claim.Outcome
		reason  string
		role    identity.Role // of the account afterwards
		used    bool          // the invite is used afterwards
	}{
		{"no identity", nil, claim.Granted, "", identity.Verified, true},
		{"unknown sender", func(f *fixture, _ string) {
			_, st := f.startRedemption("7", "")
			f.apply(st)
		}, claim.Granted, "", identity.Verified, true},
		{
			"linked to the customer", func(f *fixture, c string) { f.link(c, f.instance, "telegram", "7") }, claim.Granted,
			"", identity.Verified, true,
		},
		{
			"linked to the customer for all instances", func(f *fixture, c string) { f.link(c, "", "telegram", "7") },
			claim.Granted, "", identity.Verified, true,
		},
		{"linked to the customer in the instance and to another for all instances", func(f *fixture, c string) {
			f.link(f.createCustomer(), "", "telegram", "7")
			f.link(c, f.instance, "telegram", "7")
		}, claim.Granted, "", identity.Verified, true},
		{"verified", func(f *fixture, c string) {
			i := f.link(c, f.instance, "telegram", "7")
			_, _ = f.EditIdentity(f.t.Context(), identity.Key{TenantID: f.tenant, CustomerID: c, IdentityID: i.ID},
				identity.Edit{Verified: new(true)}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{"verified for all instances", func(f *fixture, c string) {
			i := f.link(c, "", "telegram", "7")
			_, _ = f.EditIdentity(f.t.Context(), identity.Key{TenantID: f.tenant, CustomerID: c, IdentityID: i.ID},
				identity.Edit{Verified: new(true)}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{
			"linked to another customer", func(f *fixture, _ string) { f.link(f.createCustomer(), f.instance, "telegram", "7") },
			claim.Declined, "account_of_another_customer", identity.Unverified, false,
		},
		{
			"linked to another customer for all instances",
			func(f *fixture, _ string) { f.link(f.createCustomer(), "", "telegram", "7") }, claim.Declined,
			"account_of_another_customer", identity.Unverified, false,
		},
	}
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				f := f.in(t)
				mustExec(t, f.Store, `delete from conversations`)
				mustExec(t, f.Store, `delete from identities`)
				mustExec(t, f.Store, `delete from claim_failures`)
				customer := f.createCustomer()
				if tt.prepare != nil {
					tt.prepare(f, customer)
				}
				_, code := f.issueInvite(customer, "")
				r := f.redeem("7", code)
				got := f.senderIdentity("7")
				if r.Outcome != tt.want || r.Reason != tt.reason || r.CountsAsFailure != (tt.want == claim.Declined) ||
					got.Role() != tt.role || (got.CustomerID == customer) != (tt.want != claim.Declined) {
					t.Fatalf("decision = %s (%s), counts as failure %v, identity = %+v", r.Outcome, r.Reason, r.CountsAsFailure, got)
				}
				if tt.want == claim.Granted && (got.InstanceID != f.instance || got.ID != r.Redeem.IdentityID ||
					got.VerifiedAt.IsZero()) {
					t.Errorf("identity = %+v, want one scoped to the instance", got)
				}
				want := claim.Live
				if tt.used {
					want = claim.Used
				}
				if states := f.inviteStates(customer); !slices.Equal(states, []claim.Status{want}) {
					t.Errorf("invites = %v, want %v", states, want)
				}
				with := queryText(t, f.Store, `select identity_id from conversations where id = $1`,
					gateway.ConversationID(f.instance, adapters.Telegram, "7"))
				if with != got.ID {
					t.Errorf("identity of the conversation = %q, want %s", with, got.ID)
				}
				// In all cases, the invite can be redeemed only once.
				if again := f.redeem("8", code); (again.Outcome == claim.Granted) == tt.used {
					t.Errorf("outcome for another sender = %s", again.Outcome)
				}
				if tt.want == claim.Granted {
					a := r.Attempt
					if same := f.decideRedemption(a); same.Outcome != claim.Granted || same.Redeem != nil {
						t.Errorf("decision for the same message = %+v", same)
					}
					for range claim.MaxFailuresPerQuarterHour + 1 {
						if owner := f.redeem("7", code); owner.Outcome != claim.AlreadyVerified || owner.CountsAsFailure {
							t.Errorf("decision for the same sender = %+v", owner)
						}
					}
				}
			})
		}
	})
}

// TestInvite_RedeemFenced changes the state between the decision and the commit.
func TestInvite_RedeemFenced(t *testing.T) {
	changes := map[string]func(f *fixture, customer string, i claim.Invite){
		"no change": nil,
		"used": func(f *fixture, _ string, _ claim.Invite) {
			mustExec(f.t, f.Store, `update invites set used_msg = id`)
		},
		"revoked": func(f *fixture, c string, i claim.Invite) {
			_ = f.RevokeInvite(f.t.Context(), claim.InviteKey{TenantID: f.tenant, CustomerID: c, InviteID: i.ID}, "key:test")
		},
		"expired": func(f *fixture, _ string, _ claim.Invite) {
			mustExec(f.t, f.Store, `update invites set expires_at = '2020-01-01 00:00:00.000+00:00'`)
		},
		"linked concurrently": func(f *fixture, _ string, _ claim.Invite) {
			f.link(f.createCustomer(), f.instance, "telegram", "7")
		},
		"linked for all instances": func(f *fixture, _ string, _ claim.Invite) {
			f.link(f.createCustomer(), "", "telegram", "7")
		},
		"customer merged": func(f *fixture, c string, _ claim.Invite) {
			_, _ = f.MergeCustomer(f.t.Context(), identity.MergeRequest{
				TenantID: f.tenant, CustomerID: c,
				TargetID: f.createCustomer(), MayGrant: true,
			}, "key:test")
		},
		"customer deleted": func(f *fixture, c string, _ claim.Invite) {
			_, _ = f.DeleteCustomer(f.t.Context(), f.tenant, c, "key:test")
		},
		"customer erased": func(f *fixture, c string, _ claim.Invite) {
			_, _ = f.EraseCustomer(f.t.Context(), f.tenant, c, "key:test")
		},
		"invite deleted": func(f *fixture, _ string, _ claim.Invite) { mustExec(f.t, f.Store, `delete from invites`) },
		"conversation deleted": func(f *fixture, _ string, _ claim.Invite) {
			mustExec(f.t, f.Store,
				`delete from conversations`)
		},
		"invite and conversation deleted": func(f *fixture, _ string, _ claim.Invite) {
			mustExec(f.t, f.Store, `delete from conversations`)
			mustExec(f.t, f.Store, `delete from invites`)
		},
		"identity inserted concurrently": func(f *fixture, _ string, _ claim.Invite) {
			mustExec(f.t, f.Store,
				`insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at)
					values ($1, $2, $3, 'telegram', '7', $4, $4)`, newID(), f.tenant, f.instance, f.now())
		},
	}
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for name, change := range changes {
			t.Run(name, func(t *testing.T) {
				f := f.in(t)
				for _, table := range []string{"conversations", "invites", "identities"} {
					mustExec(t, f.Store, `delete from `+table)
				}
				customer := f.createCustomer()
				i, code := f.issueInvite(customer, identity.RoleOwner)
				a, st := f.startRedemption("7", code)
				r := f.decideRedemption(a)
				if r.Outcome != claim.Granted || r.Redeem == nil {
					t.Fatalf("decision = %+v, want a redemption", r)
				}
				st.Claim = &r
				st.Events = r.Events
				if change != nil {
					change(f, customer, i)
				}
				err := f.Apply(t.Context(), st)
				if change == nil {
					if got := f.senderIdentity("7"); err != nil || got.Role() != identity.Owner || got.CustomerID != customer {
						t.Fatalf("Apply() = %v, identity = %+v", err, got)
					}
					return
				}
				conversationDeleted := strings.Contains(name, "conversation deleted")
				if !errors.Is(err, gateway.ErrFenced) && !(conversationDeleted && errors.Is(err, gateway.ErrLeaseLost)) {
					t.Fatalf("Apply() = %v, want ErrFenced", err)
				}
				if got := f.senderIdentity("7"); got.IsVerified() || got.CustomerID == customer {
					t.Errorf("identity = %+v, want it unverified", got)
				}
				if n := queryText(t, f.Store,
					`select cast(count(*) as text) from audit_events where kind = 'invite.redeemed' and customer_id = $1`,
					customer); n != "0" {
					t.Error("an invite.redeemed event was recorded")
				}
			})
		}
	})
}

// TestInvite_RedeemRevokesCode redeems an invite while a claim code of the same account is live, and
// then expires the verification. The code must not be live: it would be granted and rejected by its
// fence forever.
func TestInvite_RedeemRevokesCode(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createCustomerIdentity("7")
		issued, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		_, code := f.issueInvite(customer, "")
		if r := f.redeem("7", code); r.Outcome != claim.Granted {
			t.Fatalf("outcome of the invite = %s, want granted", r.Outcome)
		}
		f.mustBatch(t, expireVerificationStmts(identity.ExpiredByOptOut, f.now(), f.tenant, `$2`, id))
		a, st := f.startRedemption("7", "WDJBMJ")
		s, err := f.CodeState(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if s.Status == claim.Live || s.Verified {
			t.Errorf("status = %s, verified = %v, want a revoked code and an expired verification", s.Status, s.Verified)
		}
		st.Claim = &claim.Decision{Attempt: a, Outcome: claim.Granted, Grant: &issued}
		if err := f.Apply(t.Context(), st); !errors.Is(err, gateway.ErrFenced) {
			t.Errorf("Apply() of a grant = %v, want ErrFenced", err)
		}

		// A new code is live.
		issued, _, err = f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		if s, err = f.CodeState(t.Context(), a); err != nil || s.Status != claim.Live || s.Target.Gen != issued.Gen {
			t.Errorf("CodeState() of the next code = %+v, %v", s, err)
		}
	})
}

// mustBatch runs statements in one transaction.
func (f *fixture) mustBatch(t *testing.T, stmts []sqldb.Statement) {
	t.Helper()
	if err := f.db.Batch(t.Context(), stmts); err != nil {
		t.Fatal(err)
	}
}
