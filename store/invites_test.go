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

// createCustomer is one without any identity.
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
		TenantID: tenant, InstanceID: h.instance, Channel: "telegram", CustomerID: customer, RoleOverride: role}, "key:test")
	if err != nil {
		h.t.Fatal(err)
	}
	return i, code
}

// startRedemption prepares an attempt of a sender to open an invite, as the worker makes it.
// Who is not known yet is met with it.
func (h fixture) startRedemption(sender, code string) (a claim.Attempt, st gateway.Commit) {
	h.t.Helper()
	h.insertMessages(h.arrival(sender, newID(), "/claim ******"))
	for _, l := range h.lease(gateway.InboxQueue, "one") {
		for _, in := range h.inbound(l) {
			if in.Message.Sender.ID != sender {
				continue
			}
			st = gateway.Commit{Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "claimed"}}}
			a = claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: sender,
				IdentityID: in.Sender.ID,
				MessageID:  in.ID, Code: code, ReceivedAt: in.ReceivedAt, InstanceIdentityID: in.Sender.ID}
			if in.Sender.InstanceID == "" {
				a.InstanceIdentityID = newID()
				st.CreatedIdentities = []identity.Identity{{ID: a.InstanceIdentityID, TenantID: tenant, InstanceID: h.instance,
					Channel: "telegram", ExternalID: sender}}
			}
			if a.IdentityID == "" {
				a.IdentityID = a.InstanceIdentityID
			}
			return a, st
		}
	}
	h.t.Fatal("no message")
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

// redeem lets a sender open an invite, whole, and gives the outcome.
func (h fixture) redeem(sender, code string) claim.Decision {
	h.t.Helper()
	a, st := h.startRedemption(sender, code)
	r := h.decideRedemption(a)
	st.Claim = &r
	st.Participant = &gateway.ConversationParticipant{ConversationID: st.Lease.ConversationID, TenantID: tenant,
		Address: identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: sender}}
	h.apply(st)
	return r
}

func (h fixture) senderIdentity(sender string) identity.Identity {
	h.t.Helper()
	i, _, err := h.Lookup(h.t.Context(), identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram",
		ExternalID: sender})
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		h.t.Fatal(err)
	}
	return i
}

func (h fixture) inviteStates(customer string) (states []claim.Status) {
	h.t.Helper()
	is, err := h.Invites(h.t.Context(), tenant, customer, "", "", 100)
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
	i, err := h.Link(h.t.Context(), identity.Identity{TenantID: tenant, CustomerID: customer, InstanceID: instance,
		Channel: "telegram", ExternalID: sender}, "key:test")
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

func trueValue() *bool {
	v := true
	return &v
}

// TestInvite_RedeemLinksSender opens invites with accounts of every standing.
func TestInvite_RedeemLinksSender(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(h fixture, customer string)
		want    claim.Outcome
		reason  string
		role    identity.Role // of the account afterwards
		spent   bool
	}{
		{"who never wrote", nil, claim.Granted, "", identity.Verified, true},
		{"who wrote before", func(h fixture, _ string) {
			_, st := h.startRedemption("7", "")
			h.apply(st)
		}, claim.Granted, "", identity.Verified, true},
		{"linked to the customer already", func(h fixture, c string) { h.linkIdentity(c, h.instance, "7") }, claim.Granted,
			"", identity.Verified, true},
		{"linked to the customer for every instance", func(h fixture, c string) { h.linkIdentity(c, "", "7") },
			claim.Granted, "", identity.Verified, true},
		{"linked to the customer here and to another for every instance", func(h fixture, c string) {
			h.linkIdentity(h.createCustomer(), "", "7")
			h.linkIdentity(c, h.instance, "7")
		}, claim.Granted, "", identity.Verified, true},
		{"verified already", func(h fixture, c string) {
			i := h.linkIdentity(c, h.instance, "7")
			_, _ = h.EditIdentity(h.t.Context(), tenant, c, i.ID, identity.Edit{Verified: trueValue()}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{"verified already for every instance", func(h fixture, c string) {
			i := h.linkIdentity(c, "", "7")
			_, _ = h.EditIdentity(h.t.Context(), tenant, c, i.ID, identity.Edit{Verified: trueValue()}, "key:test")
		}, claim.AlreadyVerified, "", identity.Verified, false},
		{"linked to another customer", func(h fixture, _ string) { h.linkIdentity(h.createCustomer(), h.instance, "7") },
			claim.Declined, "account_of_another_customer", identity.Unverified, false},
		{"linked to another customer for every instance",
			func(h fixture, _ string) { h.linkIdentity(h.createCustomer(), "", "7") }, claim.Declined,
			"account_of_another_customer", identity.Unverified, false},
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
					t.Fatalf("%s (%s), counted %v; the account is %+v", r.Outcome, r.Reason, r.CountsAsFailure, got)
				}
				if tt.want == claim.Granted && (got.InstanceID != h.instance || got.ID != r.Redeem.IdentityID ||
					got.VerifiedAt.IsZero()) {
					t.Errorf("%+v; want one of the instance", got)
				}
				want := claim.Live
				if tt.spent {
					want = claim.Used
				}
				if states := h.inviteStates(customer); !slices.Equal(states, []claim.Status{want}) {
					t.Errorf("the invite is %v", states)
				}
				with := queryText(t, h.Store, `select identity_id from conversations where id = $1`,
					gateway.ConversationID(h.instance, adapters.Telegram, "7"))
				if with != got.ID {
					t.Errorf("the conversation is with %q, the account is %s", with, got.ID)
				}
				// Whatever was, the invite is not good for anybody twice.
				if again := h.redeem("8", code); (again.Outcome == claim.Granted) == tt.spent {
					t.Errorf("the next one is %s", again.Outcome)
				}
				if tt.want == claim.Granted {
					a := r.Attempt
					if same := h.decideRedemption(a); same.Outcome != claim.Granted || same.Redeem != nil {
						t.Errorf("the same message again: %+v", same)
					}
					for range claim.MaxFailuresPerQuarterHour + 1 {
						if owner := h.redeem("7", code); owner.Outcome != claim.AlreadyVerified || owner.CountsAsFailure {
							t.Errorf("the same person again: %+v", owner)
						}
					}
				}
			})
		}
	})
}

// TestInvite_RedeemFenced changes everything between the look and the settling.
func TestInvite_RedeemFenced(t *testing.T) {
	spoils := map[string]func(h fixture, customer string, i claim.Invite){
		"good": nil,
		"used": func(h fixture, _ string, _ claim.Invite) { mustExec(h.t, h.Store, `update invites set used_msg = id`) },
		"revoked": func(h fixture, c string, i claim.Invite) {
			_ = h.RevokeInvite(h.t.Context(), tenant, c, "", i.ID, "key:test")
		},
		"expired": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store, `update invites set expires_at = '2020-01-01 00:00:00.000+00:00'`)
		},
		"linked meanwhile": func(h fixture, _ string, _ claim.Invite) {
			h.linkIdentity(h.createCustomer(), h.instance,
				"7")
		},
		"linked everywhere": func(h fixture, _ string, _ claim.Invite) { h.linkIdentity(h.createCustomer(), "", "7") },
		"customer merged": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.MergeCustomer(h.t.Context(), tenant, c, h.createCustomer(), true, "key:test")
		},
		"customer deleted": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.DeleteCustomer(h.t.Context(), tenant, c, "key:test")
		},
		"customer erased": func(h fixture, c string, _ claim.Invite) {
			_, _ = h.EraseCustomer(h.t.Context(), tenant, c, "key:test")
		},
		"invite gone": func(h fixture, _ string, _ claim.Invite) { mustExec(h.t, h.Store, `delete from invites`) },
		"conversation gone": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store,
				`delete from conversations`)
		},
		"both are gone": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store, `delete from conversations`)
			mustExec(h.t, h.Store, `delete from invites`)
		},
		"somebody was first": func(h fixture, _ string, _ claim.Invite) {
			mustExec(h.t, h.Store,
				`insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at)
					values ($1, $2, $3, 'telegram', '7', $4, $4)`, newID(), tenant, h.instance, h.now())
		},
	}
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		for name, spoil := range spoils {
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
					t.Fatalf("%+v", r)
				}
				st.Claim = &r
				st.Events = r.Events
				if spoil != nil {
					spoil(h, customer, i)
				}
				err := h.Apply(t.Context(), st)
				if spoil == nil {
					if got := h.senderIdentity("7"); err != nil || got.Role() != identity.Owner || got.CustomerID != customer {
						t.Fatalf("%v: %+v", err, got)
					}
					return
				}
				gone := strings.Contains(name, "gone") && name != "invite gone"
				if !errors.Is(err, gateway.ErrFenced) && !(gone && errors.Is(err, gateway.ErrLeaseLost)) {
					t.Fatalf("%v; want ErrFenced", err)
				}
				if got := h.senderIdentity("7"); got.IsVerified() || got.CustomerID == customer {
					t.Errorf("%+v", got)
				}
				if n := queryText(t, h.Store,
					`select cast(count(*) as text) from audit_events where kind = 'invite.redeemed' and customer_id = $1`,
					customer); n != "0" {
					t.Error("it is told as a success")
				}
			})
		}
	})
}

func TestIssueInvite_Limits(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		desk := &claim.Service{Store: h.Store}
		press := func(customer string, by identity.Actor) error {
			_, _, err := desk.IssueInvite(t.Context(), claim.Invite{TenantID: tenant, InstanceID: h.instance,
				Channel: "telegram", CustomerID: customer}, by)
			return err
		}
		steve := h.createCustomer()
		var last claim.Invite
		for range claim.MaxLiveInvites {
			last, _ = h.issueInvite(steve, "")
		}
		if d := time.Until(last.ExpiresAt); d < claim.InviteLife-time.Minute || d > claim.InviteLife+time.Minute {
			t.Errorf("an invite lives %v", d)
		}
		if err := press(steve, "key:test"); !errors.Is(err, claim.ErrTooManyInvites) {
			t.Fatalf("one too many: %v", err)
		}
		if err := h.RevokeInvite(t.Context(), tenant, steve, "", last.ID, "key:test"); err != nil {
			t.Fatal(err)
		}
		var many *claim.TooManyCodesError
		if err := press(steve, "key:test"); !errors.As(err, &many) || many.RetryAfter <= 0 ||
			many.RetryAfter > 15*time.Minute {
			t.Fatalf("the sixth in a quarter: %v", err)
		}
		// One member of staff, many customers; codes count, too.
		_, id := h.createCustomerIdentity("7")
		mustExec(t, h.Store, `update identities set customer_id = $2 where id = $1`, id, steve)
		if _, _, err := h.IssueCode(t.Context(), tenant, steve, id, "key:busy"); err != nil {
			t.Fatal(err)
		}
		for n := 1; n < maxIssuedPerHour; n++ {
			if err := press(h.createCustomer(), "key:busy"); err != nil {
				t.Fatal(n, err)
			}
		}
		if err := press(h.createCustomer(), "key:busy"); !errors.As(err, &many) || many.RetryAfter > time.Hour {
			t.Fatalf("one too many of one actor: %v", err)
		}
		if err := press(h.createCustomer(), "key:idle"); err != nil {
			t.Fatalf("another actor: %v", err)
		}
		for name, i := range map[string]claim.Invite{
			"customer": {TenantID: tenant, InstanceID: h.instance, Channel: "telegram", CustomerID: newID()},
			"tenant":   {TenantID: newID(), InstanceID: h.instance, Channel: "telegram", CustomerID: h.createCustomer()},
		} {
			if _, _, err := desk.IssueInvite(t.Context(), i, "key:idle"); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("unknown %s: %v", name, err)
			}
		}
		if _, _, err := desk.IssueInvite(t.Context(), claim.Invite{TenantID: tenant, InstanceID: newID(),
			Channel: "telegram", CustomerID: h.createCustomer()}, "key:idle"); !errors.Is(err, identity.ErrNoInstance) {
			t.Errorf("unknown instance: %v", err)
		}
	})
}

// TestIssueInvite_PhoneNeedsConsent are off unless the instance says otherwise, and end when it
// changes its mind.
func TestIssueInvite_PhoneNeedsConsent(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		desk, steve := &claim.Service{Store: h.Store}, h.createCustomer()
		by := func(channel string) error {
			_, _, err := desk.IssueInvite(t.Context(), claim.Invite{TenantID: tenant, InstanceID: h.instance, Channel: channel,
				CustomerID: steve}, "key:test")
			return err
		}
		for _, c := range []string{"sms", "whatsapp"} {
			if err := by(c); !errors.Is(err, claim.ErrInvitesDisabled) {
				t.Errorf("%s: %v", c, err)
			}
		}
		no := false
		if i, err := h.EditInstance(t.Context(), tenant, h.instance, gateway.InstanceEdit{SMSInvites: trueValue()},
			"key:test"); err != nil || !i.SMSInvites {
			t.Fatal(i, err)
		}
		for _, c := range []string{"sms", "whatsapp", "slack"} {
			if err := by(c); err != nil {
				t.Errorf("%s: %v", c, err)
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
			t.Error(got)
		}
	})
}

// TestInvite_RevokedWithCustomer merges, deletes and erases, and tells so.
func TestInvite_RevokedWithCustomer(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		for reason, end := range map[string]func(customer string) error{
			"customer_merged": func(c string) error {
				_, err := h.MergeCustomer(t.Context(), tenant, c, h.createCustomer(), true, "key:test")
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
				t.Errorf("%s: %+v", reason, r)
			}
			events, err := h.AuditEvents(t.Context(), tenant, identity.EventQuery{Kind: "invite.revoked", CustomerID: steve},
				"", 10)
			if err != nil || len(events) != 1 || events[0].Detail["reason"] != reason || events[0].Detail["invite_id"] != i.ID {
				t.Errorf("%s: %+v, %v", reason, events, err)
			}
		}
		steve := h.createCustomer()
		_, code := h.issueInvite(steve, "")
		if _, err := h.EraseCustomer(t.Context(), tenant, steve, "key:test"); err != nil {
			t.Fatal(err)
		}
		if r := h.redeem("9", code); r.Outcome != claim.Declined {
			t.Errorf("erased: %+v", r)
		}
		matt := h.createCustomer()
		h.issueInvite(matt, "")
		if err := h.DeleteInstance(t.Context(), tenant, h.instance, "key:test"); err != nil {
			t.Fatal(err)
		}
		if n := queryText(t, h.Store, `select cast(count(*) as text) from invites`); n != "0" {
			t.Errorf("%s invites outlive their instance", n)
		}
	})
}

// TestInvite_InstanceScoped types right letters where they are others.
func TestInvite_InstanceScoped(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		i, code := h.issueInvite(h.createCustomer(), "")
		other := newFixture(t, h.Store)
		a, _ := h.startRedemption("7", code)
		for name, change := range map[string]func(a *claim.Attempt){
			"instance": func(a *claim.Attempt) { a.InstanceID = other.instance },
			"channel":  func(a *claim.Attempt) { a.Channel = "sms" },
			"tenant":   func(a *claim.Attempt) { a.TenantID = newID() },
			"letters":  func(a *claim.Attempt) { a.Code = claim.NewInviteCode() },
		} {
			b := a
			change(&b)
			if r := h.decideRedemption(b); r.Outcome != claim.Declined || r.Reason != "wrong" || !r.CountsAsFailure {
				t.Errorf("another %s: %+v", name, r)
			}
			if known, err := h.InviteExists(t.Context(), b); known || err != nil {
				t.Errorf("another %s is known: %v", name, err)
			}
		}
		if known, err := h.InviteExists(t.Context(), a); !known || err != nil {
			t.Errorf("not known: %v", err)
		}
		if err := h.RevokeInvite(t.Context(), tenant, i.CustomerID, other.instance, i.ID, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("revoked for another instance: %v", err)
		}
		if err := h.RevokeInvite(t.Context(), newID(), i.CustomerID, "", i.ID, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("revoked for another tenant: %v", err)
		}
		if err := h.RevokeInvite(t.Context(), tenant, newID(), "", i.ID, "key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("revoked for another customer: %v", err)
		}
		if r := h.decideRedemption(a); r.Outcome != claim.Granted {
			t.Errorf("where it holds: %+v", r)
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

// TestInvite_RedeemRevokesCode opens an invite while a code of the same account is live,
// and then gives cause for doubt. The code is over: it would be taken for good, and
// refused by its fence, for ever.
func TestInvite_RedeemRevokesCode(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createCustomerIdentity("7")
		issued, _, err := h.IssueCode(t.Context(), tenant, customer, id, "key:test")
		if err != nil {
			t.Fatal(err)
		}
		_, code := h.issueInvite(customer, "")
		if r := h.redeem("7", code); r.Outcome != claim.Granted {
			t.Fatalf("the invite: %s", r.Outcome)
		}
		h.mustBatch(t, expireVerificationStmts(identity.ExpiredByOptOut, h.now(), tenant, `$2`, id))
		a, st := h.startRedemption("7", "WDJBMJ")
		s, err := h.CodeState(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if s.Status == claim.Live || s.Verified {
			t.Errorf("fence %s, verified %v; want a code that is over, of somebody in doubt", s.Status, s.Verified)
		}
		st.Claim = &claim.Decision{Attempt: a, Outcome: claim.Granted, Grant: &issued}
		if err := h.Apply(t.Context(), st); !errors.Is(err, gateway.ErrFenced) {
			t.Errorf("granted all the same: %v", err)
		}

		// Staff issue another, and that one is good.
		issued, _, err = h.IssueCode(t.Context(), tenant, customer, id, "key:test")
		if err != nil {
			t.Fatal(err)
		}
		if s, err = h.CodeState(t.Context(), a); err != nil || s.Status != claim.Live || s.Target.Gen != issued.Gen {
			t.Errorf("the next code: %+v, %v", s, err)
		}
	})
}

// mustBatch runs statements as one transaction.
func (h fixture) mustBatch(t *testing.T, stmts []sqldb.Statement) {
	t.Helper()
	if err := h.db.Batch(t.Context(), stmts); err != nil {
		t.Fatal(err)
	}
}
