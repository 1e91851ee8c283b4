package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// createCustomer creates a customer without identities.
func (h fixture) createCustomer() string {
	h.t.Helper()
	c, err := h.CreateCustomer(h.t.Context(), identity.Customer{TenantID: tenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID
}

func (h fixture) issueInvite(customer, role string) (claim.Invite, string) {
	h.t.Helper()
	i, code, err := (&claim.Service{Store: h.Store}).IssueInvite(h.t.Context(), claim.Invite{
		TenantID: tenant, InstanceID: h.instance, Channel: "telegram", CustomerID: customer, RoleOverride: role,
	}, "key:test")
	if err != nil {
		h.t.Fatal(err)
	}
	return i, code
}

// startRedemption stores a claim message of a sender and returns the attempt as the worker creates
// it. A sender without an identity gets one with the commit.
func (h fixture) startRedemption(sender, code string) (a claim.Attempt, st gateway.Commit) {
	h.t.Helper()
	h.insertMessages(h.arrival(sender, newID(), "/claim ******"))
	for _, l := range h.lease(gateway.InboxQueue, "one") {
		for _, in := range h.inbound(l) {
			if in.Message.Sender.ID != sender {
				continue
			}
			st = gateway.Commit{Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "claimed"}}}
			a = claim.Attempt{
				TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: sender,
				IdentityID: in.Sender.ID,
				MessageID:  in.ID, Code: code, ReceivedAt: in.ReceivedAt, InstanceIdentityID: in.Sender.ID,
			}
			if in.Sender.InstanceID == "" {
				a.InstanceIdentityID = newID()
				st.CreatedIdentities = []identity.Identity{{
					ID: a.InstanceIdentityID, TenantID: tenant, InstanceID: h.instance,
					Channel: "telegram", ExternalID: sender,
				}}
			}
			if a.IdentityID == "" {
				a.IdentityID = a.InstanceIdentityID
			}
			return a, st
		}
	}
	h.t.Fatal("message not found")
	return a, st
}

func (h fixture) decideRedemption(a claim.Attempt) claim.Decision {
	h.t.Helper()
	r, err := (&claim.Service{Store: h.Store}).DecideRedemption(h.t.Context(), a)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// redeem processes the attempt of a sender to redeem an invite and returns the decision.
func (h fixture) redeem(sender, code string) claim.Decision {
	h.t.Helper()
	a, st := h.startRedemption(sender, code)
	r := h.decideRedemption(a)
	st.Claim = &r
	st.Participant = &gateway.ConversationParticipant{
		ConversationID: st.Lease.ConversationID, TenantID: tenant,
		Address: identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: sender},
	}
	h.apply(st)
	return r
}

func (h fixture) senderIdentity(sender string) identity.Identity {
	h.t.Helper()
	i, _, err := h.Lookup(h.t.Context(), identity.Address{
		TenantID: tenant, InstanceID: h.instance, Channel: "telegram",
		ExternalID: sender,
	})
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		h.t.Fatal(err)
	}
	return i
}

func (h fixture) inviteStates(customer string) (states []claim.Status) {
	h.t.Helper()
	is, err := h.Invites(h.t.Context(), claim.InviteQuery{TenantID: tenant, CustomerID: customer, Limit: 100})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, i := range is {
		states = append(states, i.Status())
	}
	return states
}

func (h fixture) linkIdentity(customer, instance, sender string) identity.Identity {
	h.t.Helper()
	i, err := h.Link(h.t.Context(), identity.Identity{
		TenantID: tenant, CustomerID: customer, InstanceID: instance,
		Channel: "telegram", ExternalID: sender,
	}, "key:test")
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

func trueValue() *bool {
	v := true
	return &v
}

// TestInvite_RedeemLinksSender redeems invites with accounts in all possible states.
func TestInvite_RedeemLinksSender(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(h fixture, customer string)
		want    claim.Outcome
		reason  string
		role    identity.Role // of the account afterwards
		used    bool          // the invite is used afterwards
	}{
		{"no identity", nil, claim.Granted, "", identity.Verified, true},
		{"unknown sender", func(h fixture, _ string) {
			_, st := h.startRedemption("7", "")
			h.apply(st)
		}, claim.Granted, "", identity.Verified, true},
		{
			"linked to the customer", func(h fixture, c string) { h.linkIdentity(c, h.instance, "7") }, claim.Granted,
			"", identity.Verified, true,
		},
		{
			"linked to the customer for all instances", func(h fixture, c string) { h.linkIdentity(c, "", "7") },
			claim.Granted, "", identity.Verified, true,
		},
		{"linked to the customer in the instance and to another for all instances", func(h fixture, c string) {
			h.linkIdentity(h.createCustomer(), "", "7")
			h.linkIdentity(c, h.instance, "7")
		}, claim.Granted, "", identity.Verified, true},
		{"verified", func(h fixture, c string) {
			i := h.linkIdentity(c, h.instance, "7")
			_, _ = h.EditIdentity(h.t.Context(), identity.Key{TenantID: tenant, CustomerID: c, IdentityID: i.ID},
				identity.Edit{Verified: trueValue()}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{"verified for all instances", func(h fixture, c string) {
			i := h.linkIdentity(c, "", "7")
			_, _ = h.EditIdentity(h.t.Context(), identity.Key{TenantID: tenant, CustomerID: c, IdentityID: i.ID},
				identity.Edit{Verified: trueValue()}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{
			"linked to another customer", func(h fixture, _ string) { h.linkIdentity(h.createCustomer(), h.instance, "7") },
			claim.Declined, "account_of_another_customer", identity.Unverified, false,
		},
		{
			"linked to another customer for all instances",
			func(h fixture, _ string) { h.linkIdentity(h.createCustomer(), "", "7") }, claim.Declined,
			"account_of_another_customer", identity.Unverified, false,
		},
	}
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				h := h
				h.t = t
				mustExec(t, h.Store, `delete from conversations`)
				mustExec(t, h.Store, `delete from identities`)
				mustExec(t, h.Store, `delete from claim_failures`)
				customer := h.createCustomer()
				if tt.prepare != nil {
					tt.prepare(h, customer)
				}
				_, code := h.issueInvite(customer, "")
				r := h.redeem("7", code)
				got := h.senderIdentity("7")
				if r.Outcome != tt.want || r.Reason != tt.reason || r.CountsAsFailure != (tt.want == claim.Declined) ||
					got.Role() != tt.role || (got.CustomerID == customer) != (tt.want != claim.Declined) {
					t.Fatalf("decision = %s (%s), counts as failure %v, identity = %+v", r.Outcome, r.Reason, r.CountsAsFailure, got)
				}
				if tt.want == claim.Granted && (got.InstanceID != h.instance || got.ID != r.Redeem.IdentityID ||
					got.VerifiedAt.IsZero()) {
					t.Errorf("identity = %+v, want one scoped to the instance", got)
				}
				want := claim.Live
				if tt.used {
					want = claim.Used
				}
				if states := h.inviteStates(customer); !slices.Equal(states, []claim.Status{want}) {
					t.Errorf("invites = %v, want %v", states, want)
				}
				with := queryText(t, h.Store, `select identity_id from conversations where id = $1`,
					gateway.ConversationID(h.instance, adapters.Telegram, "7"))
				if with != got.ID {
					t.Errorf("identity of the conversation = %q, want %s", with, got.ID)
				}
				// In all cases, the invite can be redeemed only once.
				if again := h.redeem("8", code); (again.Outcome == claim.Granted) == tt.used {
					t.Errorf("outcome for another sender = %s", again.Outcome)
				}
				if tt.want == claim.Granted {
					a := r.Attempt
					if same := h.decideRedemption(a); same.Outcome != claim.Granted || same.Redeem != nil {
						t.Errorf("decision for the same message = %+v", same)
					}
					for range claim.MaxFailuresPerQuarterHour + 1 {
						if owner := h.redeem("7", code); owner.Outcome != claim.AlreadyVerified || owner.CountsAsFailure {
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
	changes := map[string]func(h fixture, customer string, i claim.Invite){
		"no change": nil,
		"used":      func(h fixture, _ string, _ claim.Invite) { mustExec(h.t, h.Store, `update invites set used_msg = id`) },
		"revoked": func(h fixture, c string, i claim.Invite) {
			_ = h.RevokeInvite(h.t.Context(), claim.InviteKey{TenantID: tenant, CustomerID: c, InviteID: i.ID}, "key:test")
		},
		"expired": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store, `update invites set expires_at = '2020-01-01 00:00:00.000+00:00'`)
		},
		"linked concurrently": func(h fixture, _ string, _ claim.Invite) {
			h.linkIdentity(h.createCustomer(), h.instance,
				"7")
		},
		"linked for all instances": func(h fixture, _ string, _ claim.Invite) { h.linkIdentity(h.createCustomer(), "", "7") },
		"customer merged": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.MergeCustomer(h.t.Context(), identity.MergeRequest{
				TenantID: tenant, CustomerID: c,
				TargetID: h.createCustomer(), MayGrant: true,
			}, "key:test")
		},
		"customer deleted": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.DeleteCustomer(h.t.Context(), tenant, c, "key:test")
		},
		"customer erased": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.EraseCustomer(h.t.Context(), tenant, c, "key:test")
		},
		"invite deleted": func(h fixture, _ string, _ claim.Invite) { mustExec(h.t, h.Store, `delete from invites`) },
		"conversation deleted": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store,
				`delete from conversations`)
		},
		"invite and conversation deleted": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store, `delete from conversations`)
			mustExec(h.t, h.Store, `delete from invites`)
		},
		"identity inserted concurrently": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store,
				`insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at)
					values ($1, $2, $3, 'telegram', '7', $4, $4)`, newID(), tenant, h.instance, h.now())
		},
	}
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		for name, change := range changes {
			t.Run(name, func(t *testing.T) {
				h := h
				h.t = t
				for _, table := range []string{"conversations", "invites", "identities"} {
					mustExec(t, h.Store, `delete from `+table)
				}
				customer := h.createCustomer()
				i, code := h.issueInvite(customer, identity.RoleOwner)
				a, st := h.startRedemption("7", code)
				r := h.decideRedemption(a)
				if r.Outcome != claim.Granted || r.Redeem == nil {
					t.Fatalf("decision = %+v, want a redemption", r)
				}
				st.Claim = &r
				st.Events = r.Events
				if change != nil {
					change(h, customer, i)
				}
				err := h.Apply(t.Context(), st)
				if change == nil {
					if got := h.senderIdentity("7"); err != nil || got.Role() != identity.Owner || got.CustomerID != customer {
						t.Fatalf("Apply() = %v, identity = %+v", err, got)
					}
					return
				}
				conversationDeleted := strings.Contains(name, "conversation deleted")
				if !errors.Is(err, gateway.ErrFenced) && !(conversationDeleted && errors.Is(err, gateway.ErrLeaseLost)) {
					t.Fatalf("Apply() = %v, want ErrFenced", err)
				}
				if got := h.senderIdentity("7"); got.IsVerified() || got.CustomerID == customer {
					t.Errorf("identity = %+v, want it unverified", got)
				}
				if n := queryText(t, h.Store,
					`select cast(count(*) as text) from audit_events where kind = 'invite.redeemed' and customer_id = $1`,
					customer); n != "0" {
					t.Error("an invite.redeemed event was recorded")
				}
			})
		}
	})
}

func TestIssueInvite_Limits(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		service := &claim.Service{Store: h.Store}
		issue := func(customer string, by identity.Actor) error {
			_, _, err := service.IssueInvite(t.Context(), claim.Invite{
				TenantID: tenant, InstanceID: h.instance,
				Channel: "telegram", CustomerID: customer,
			}, by)
			return err
		}
		steve := h.createCustomer()
		var last claim.Invite
		for range claim.MaxLiveInvites {
			last, _ = h.issueInvite(steve, "")
		}
		if d := time.Until(last.ExpiresAt); d < claim.InviteLife-time.Minute || d > claim.InviteLife+time.Minute {
			t.Errorf("invite expires in %v, want %v", d, claim.InviteLife)
		}
		if err := issue(steve, "key:test"); !errors.Is(err, claim.ErrTooManyInvites) {
			t.Fatalf("IssueInvite() over the limit of live invites = %v, want ErrTooManyInvites", err)
		}
		if err := h.RevokeInvite(t.Context(), claim.InviteKey{TenantID: tenant, CustomerID: steve, InviteID: last.ID},
			"key:test"); err != nil {
			t.Fatal(err)
		}
		var many *claim.TooManyCodesError
		if err := issue(steve, "key:test"); !errors.As(err, &many) || many.RetryAfter <= 0 ||
			many.RetryAfter > 15*time.Minute {
			t.Fatalf("sixth IssueInvite() in 15 minutes = %v, want TooManyCodesError", err)
		}
		// The limit of an actor counts invites for different customers and codes.
		_, id := h.createCustomerIdentity("7")
		mustExec(t, h.Store, `update identities set customer_id = $2 where id = $1`, id, steve)
		if _, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: steve, IdentityID: id},
			"key:busy"); err != nil {
			t.Fatal(err)
		}
		for n := 1; n < maxIssuedPerHour; n++ {
			if err := issue(h.createCustomer(), "key:busy"); err != nil {
				t.Fatal(n, err)
			}
		}
		if err := issue(h.createCustomer(), "key:busy"); !errors.As(err, &many) || many.RetryAfter > time.Hour {
			t.Fatalf("IssueInvite() over the limit of the actor = %v, want TooManyCodesError", err)
		}
		if err := issue(h.createCustomer(), "key:idle"); err != nil {
			t.Fatalf("IssueInvite() by another actor = %v", err)
		}
		for name, i := range map[string]claim.Invite{
			"customer": {TenantID: tenant, InstanceID: h.instance, Channel: "telegram", CustomerID: newID()},
			"tenant":   {TenantID: newID(), InstanceID: h.instance, Channel: "telegram", CustomerID: h.createCustomer()},
		} {
			if _, _, err := service.IssueInvite(t.Context(), i, "key:idle"); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("IssueInvite() for an unknown %s = %v, want ErrNotFound", name, err)
			}
		}
		if _, _, err := service.IssueInvite(t.Context(), claim.Invite{
			TenantID: tenant, InstanceID: newID(),
			Channel: "telegram", CustomerID: h.createCustomer(),
		}, "key:idle"); !errors.Is(err, identity.ErrNoInstance) {
			t.Errorf("IssueInvite() for an unknown instance = %v, want ErrNoInstance", err)
		}
	})
}

// TestIssueInvite_PhoneNeedsConsent tests that invites on phone channels require the consent of the
// instance and are revoked when it is withdrawn.
func TestIssueInvite_PhoneNeedsConsent(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		service, steve := &claim.Service{Store: h.Store}, h.createCustomer()
		issue := func(channel string) error {
			_, _, err := service.IssueInvite(t.Context(), claim.Invite{
				TenantID: tenant, InstanceID: h.instance,
				Channel:    channel,
				CustomerID: steve,
			}, "key:test")
			return err
		}
		for _, c := range []string{"sms", "whatsapp"} {
			if err := issue(c); !errors.Is(err, claim.ErrInvitesDisabled) {
				t.Errorf("IssueInvite(%s) = %v", c, err)
			}
		}
		no := false
		if i, err := h.EditInstance(t.Context(), tenant, h.instance, gateway.InstanceEdit{SMSInvites: trueValue()},
			"key:test"); err != nil || !i.SMSInvites {
			t.Fatal(i, err)
		}
		for _, c := range []string{"sms", "whatsapp", "slack"} {
			if err := issue(c); err != nil {
				t.Errorf("IssueInvite(%s) = %v", c, err)
			}
		}
		name := "Support"
		if _, err := h.EditInstance(t.Context(), tenant, h.instance, gateway.InstanceEdit{Name: &name},
			"key:test"); err != nil || !slices.Equal(h.inviteStates(steve), []claim.Status{claim.Live, claim.Live, claim.Live}) {
			t.Fatal(h.inviteStates(steve), err)
		}
		if i, err := h.EditInstance(t.Context(), tenant, h.instance, gateway.InstanceEdit{SMSInvites: &no},
			"key:test"); err != nil || i.SMSInvites {
			t.Fatal(i, err)
		}
		if got := h.inviteStates(steve); !slices.Equal(got, []claim.Status{claim.Revoked, claim.Revoked, claim.Live}) {
			t.Errorf("invites = %v, want those on phone channels revoked", got)
		}
	})
}

// TestInvite_RevokedWithCustomer tests that merging, deleting and erasing a customer end its invites.
func TestInvite_RevokedWithCustomer(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		for reason, end := range map[string]func(customer string) error{
			"customer_merged": func(c string) error {
				_, err := h.MergeCustomer(t.Context(), identity.MergeRequest{
					TenantID: tenant, CustomerID: c,
					TargetID: h.createCustomer(), MayGrant: true,
				}, "key:test")
				return err
			},
			"customer_deleted": func(c string) error {
				_, err := h.DeleteCustomer(t.Context(), tenant, c, "key:test")
				return err
			},
		} {
			steve := h.createCustomer()
			i, code := h.issueInvite(steve, "")
			if err := end(steve); err != nil {
				t.Fatal(err)
			}
			if r := h.redeem("9", code); r.Outcome != claim.Declined {
				t.Errorf("%s: decision = %+v, want declined", reason, r)
			}
			events, err := h.AuditEvents(t.Context(), tenant, identity.EventQuery{Kind: "invite.revoked", CustomerID: steve},
				"", 10)
			if err != nil || len(events) != 1 || events[0].Detail["reason"] != reason || events[0].Detail["invite_id"] != i.ID {
				t.Errorf("%s: events = %+v, %v", reason, events, err)
			}
		}
		steve := h.createCustomer()
		_, code := h.issueInvite(steve, "")
		if _, err := h.EraseCustomer(t.Context(), tenant, steve, "key:test"); err != nil {
			t.Fatal(err)
		}
		if r := h.redeem("9", code); r.Outcome != claim.Declined {
			t.Errorf("decision after the erasure = %+v, want declined", r)
		}
		matt := h.createCustomer()
		h.issueInvite(matt, "")
		if err := h.DeleteInstance(t.Context(), tenant, h.instance, "key:test"); err != nil {
			t.Fatal(err)
		}
		if n := queryText(t, h.Store, `select cast(count(*) as text) from invites`); n != "0" {
			t.Errorf("%s invites left after deleting the instance, want 0", n)
		}
	})
}

// TestInvite_InstanceScoped tests that a code is valid only for its instance and channel.
func TestInvite_InstanceScoped(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		i, code := h.issueInvite(h.createCustomer(), "")
		other := newFixture(t, h.Store)
		a, _ := h.startRedemption("7", code)
		for name, change := range map[string]func(a *claim.Attempt){
			"instance": func(a *claim.Attempt) { a.InstanceID = other.instance },
			"channel":  func(a *claim.Attempt) { a.Channel = "sms" },
			"tenant":   func(a *claim.Attempt) { a.TenantID = newID() },
			"code":     func(a *claim.Attempt) { a.Code = claim.NewInviteCode() },
		} {
			b := a
			change(&b)
			if r := h.decideRedemption(b); r.Outcome != claim.Declined || r.Reason != "wrong" || !r.CountsAsFailure {
				t.Errorf("decision for another %s = %+v, want a wrong code", name, r)
			}
			if known, err := h.InviteExists(t.Context(), b); known || err != nil {
				t.Errorf("InviteExists() for another %s = %v, %v, want false", name, known, err)
			}
		}
		if known, err := h.InviteExists(t.Context(), a); !known || err != nil {
			t.Errorf("InviteExists() = %v, %v, want true", known, err)
		}
		if err := h.RevokeInvite(t.Context(), claim.InviteKey{
			TenantID: tenant, CustomerID: i.CustomerID,
			InstanceID: other.instance, InviteID: i.ID,
		}, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other instance) = %v, want ErrNotFound", err)
		}
		if err := h.RevokeInvite(t.Context(), claim.InviteKey{TenantID: newID(), CustomerID: i.CustomerID, InviteID: i.ID},
			"key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other tenant) = %v, want ErrNotFound", err)
		}
		if err := h.RevokeInvite(t.Context(), claim.InviteKey{TenantID: tenant, CustomerID: newID(), InviteID: i.ID},
			"key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other customer) = %v, want ErrNotFound", err)
		}
		if r := h.decideRedemption(a); r.Outcome != claim.Granted {
			t.Errorf("decision in the right instance = %+v, want granted", r)
		}
	})
}

// TestInvite_SurvivesKeyRotation redeems an invite after a new first master key was added. The row
// of the invite names the key that must be kept for it.
func TestInvite_SurvivesKeyRotation(t *testing.T) {
	forEachEngineWithKey(t, func(t *testing.T, h fixture, k1 string) {
		_, code := h.issueInvite(h.createCustomer(), "")
		if id := queryText(t, h.Store, `select key_id from invites`); id != "k1" {
			t.Errorf("key ID of the invite = %q, want k1", id)
		}
		a, _ := h.startRedemption("7", code)
		k2 := keyring.GenerateKey("k2")
		if r := h.withKeys(k2).decideRedemption(a); r.Outcome != claim.Declined {
			t.Errorf("outcome without the key = %s, want %s", r.Outcome, claim.Declined)
		}
		if r := h.withKeys(k2, k1).decideRedemption(a); r.Outcome != claim.Granted {
			t.Errorf("outcome with both keys = %s, want %s", r.Outcome, claim.Granted)
		}
	})
}

// TestInvite_RedeemRevokesCode redeems an invite while a claim code of the same account is live, and
// then expires the verification. The code must not be live: it would be granted and rejected by its
// fence forever.
func TestInvite_RedeemRevokesCode(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createCustomerIdentity("7")
		issued, _, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		_, code := h.issueInvite(customer, "")
		if r := h.redeem("7", code); r.Outcome != claim.Granted {
			t.Fatalf("outcome of the invite = %s, want granted", r.Outcome)
		}
		h.mustBatch(t, expireVerificationStmts(identity.ExpiredByOptOut, h.now(), tenant, `$2`, id))
		a, st := h.startRedemption("7", "WDJBMJ")
		s, err := h.CodeState(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if s.Status == claim.Live || s.Verified {
			t.Errorf("status = %s, verified = %v, want a revoked code and an expired verification", s.Status, s.Verified)
		}
		st.Claim = &claim.Decision{Attempt: a, Outcome: claim.Granted, Grant: &issued}
		if err := h.Apply(t.Context(), st); !errors.Is(err, gateway.ErrFenced) {
			t.Errorf("Apply() of a grant = %v, want ErrFenced", err)
		}

		// A new code is live.
		issued, _, err = h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:test")
		if err != nil {
			t.Fatal(err)
		}
		if s, err = h.CodeState(t.Context(), a); err != nil || s.Status != claim.Live || s.Target.Gen != issued.Gen {
			t.Errorf("CodeState() of the next code = %+v, %v", s, err)
		}
	})
}

// mustBatch runs statements in one transaction.
func (h fixture) mustBatch(t *testing.T, stmts []sqldb.Statement) {
	t.Helper()
	if err := h.db.Batch(t.Context(), stmts); err != nil {
		t.Fatal(err)
	}
}
