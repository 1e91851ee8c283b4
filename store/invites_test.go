package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
)

func (f *fixture) issueInvite(customer, role string) (claim.Invite, string) {
	f.t.Helper()
	i, code, err := (&claim.Service{Store: f.Store}).IssueInvite(f.t.Context(), claim.Invite{
		TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", CustomerID: customer, RoleOverride: role,
	}, "key:test")
	if err != nil {
		f.t.Fatal(err)
	}
	return i, code
}

func (f *fixture) inviteStates(customer string) (states []claim.Status) {
	f.t.Helper()
	is, err := f.Invites(f.t.Context(), claim.InviteQuery{TenantID: f.tenant, CustomerID: customer, Limit: 100})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, i := range is {
		states = append(states, i.Status())
	}
	return states
}

func TestIssueInvite_Limits(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		service := &claim.Service{Store: f.Store}
		issue := func(customer string, by identity.Actor) error {
			_, _, err := service.IssueInvite(t.Context(), claim.Invite{
				TenantID: f.tenant, InstanceID: f.instance,
				Channel: "telegram", CustomerID: customer,
			}, by)
			return err
		}
		steve := f.createCustomer()
		var last claim.Invite
		for range claim.MaxLiveInvites {
			last, _ = f.issueInvite(steve, "")
		}
		if d := time.Until(last.ExpiresAt); d < claim.InviteLife-time.Minute || d > claim.InviteLife+time.Minute {
			t.Errorf("invite expires in %v, want %v", d, claim.InviteLife)
		}
		if err := issue(steve, "key:test"); !errors.Is(err, claim.ErrTooManyInvites) {
			t.Fatalf("IssueInvite() over the limit of live invites = %v, want ErrTooManyInvites", err)
		}
		if err := f.RevokeInvite(t.Context(), claim.InviteKey{TenantID: f.tenant, CustomerID: steve, InviteID: last.ID},
			"key:test"); err != nil {
			t.Fatal(err)
		}
		var many *claim.TooManyCodesError
		if err := issue(steve, "key:test"); !errors.As(err, &many) || many.RetryAfter <= 0 ||
			many.RetryAfter > 15*time.Minute {
			t.Fatalf("sixth IssueInvite() in 15 minutes = %v, want TooManyCodesError", err)
		}
		// The limit of an actor counts invites for different customers and codes.
		_, id := f.createCustomerIdentity("7")
		mustExec(t, f.Store, `update identities set customer_id = $2 where id = $1`, id, steve)
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: id},
			"key:busy"); err != nil {
			t.Fatal(err)
		}
		for n := 1; n < maxIssuedPerHour; n++ {
			if err := issue(f.createCustomer(), "key:busy"); err != nil {
				t.Fatal(n, err)
			}
		}
		if err := issue(f.createCustomer(), "key:busy"); !errors.As(err, &many) || many.RetryAfter > time.Hour {
			t.Fatalf("IssueInvite() over the limit of the actor = %v, want TooManyCodesError", err)
		}
		if err := issue(f.createCustomer(), "key:idle"); err != nil {
			t.Fatalf("IssueInvite() by another actor = %v", err)
		}
		for name, i := range map[string]claim.Invite{
			"customer": {TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", CustomerID: newID()},
			"tenant":   {TenantID: newID(), InstanceID: f.instance, Channel: "telegram", CustomerID: f.createCustomer()},
		} {
			if _, _, err := service.IssueInvite(t.Context(), i, "key:idle"); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("IssueInvite() for an unknown %s = %v, want ErrNotFound", name, err)
			}
		}
		if _, _, err := service.IssueInvite(t.Context(), claim.Invite{
			TenantID: f.tenant, InstanceID: newID(),
			Channel: "telegram", CustomerID: f.createCustomer(),
		}, "key:idle"); !errors.Is(err, identity.ErrNoInstance) {
			t.Errorf("IssueInvite() for an unknown instance = %v, want ErrNoInstance", err)
		}
	})
}

// TestIssueInvite_PhoneNeedsConsent tests that invites on phone channels require the consent of the
// instance and are revoked when it is withdrawn.
func TestIssueInvite_PhoneNeedsConsent(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		service, steve := &claim.Service{Store: f.Store}, f.createCustomer()
		issue := func(channel string) error {
			_, _, err := service.IssueInvite(t.Context(), claim.Invite{
				TenantID: f.tenant, InstanceID: f.instance,
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
		if i, err := f.EditInstance(t.Context(), f.tenant, f.instance, gateway.InstanceEdit{SMSInvites: new(true)},
			"key:test"); err != nil || !i.SMSInvites {
			t.Fatal(i, err)
		}
		for _, c := range []string{"sms", "whatsapp", "slack"} {
			if err := issue(c); err != nil {
				t.Errorf("IssueInvite(%s) = %v", c, err)
			}
		}
		name := "Support"
		if _, err := f.EditInstance(t.Context(), f.tenant, f.instance, gateway.InstanceEdit{Name: &name},
			"key:test"); err != nil || !slices.Equal(f.inviteStates(steve), []claim.Status{claim.Live, claim.Live, claim.Live}) {
			t.Fatal(f.inviteStates(steve), err)
		}
		if i, err := f.EditInstance(t.Context(), f.tenant, f.instance, gateway.InstanceEdit{SMSInvites: &no},
			"key:test"); err != nil || i.SMSInvites {
			t.Fatal(i, err)
		}
		if got := f.inviteStates(steve); !slices.Equal(got, []claim.Status{claim.Revoked, claim.Revoked, claim.Live}) {
			t.Errorf("invites = %v, want those on phone channels revoked", got)
		}
	})
}

// TestInvite_RevokedWithCustomer tests that merging, deleting and erasing a customer end its invites.
func TestInvite_RevokedWithCustomer(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for reason, end := range map[string]func(customer string) error{
			"customer_merged": func(c string) error {
				_, err := f.MergeCustomer(t.Context(), identity.MergeRequest{
					TenantID: f.tenant, CustomerID: c,
					TargetID: f.createCustomer(), MayGrant: true,
				}, "key:test")
				return err
			},
			"customer_deleted": func(c string) error {
				_, err := f.DeleteCustomer(t.Context(), f.tenant, c, "key:test")
				return err
			},
		} {
			steve := f.createCustomer()
			i, code := f.issueInvite(steve, "")
			if err := end(steve); err != nil {
				t.Fatal(err)
			}
			if r := f.redeem("9", code); r.Outcome != claim.Declined {
				t.Errorf("%s: decision = %+v, want declined", reason, r)
			}
			events, err := f.AuditEvents(t.Context(), f.tenant, identity.EventQuery{Kind: "invite.revoked", CustomerID: steve},
				"", 10)
			if err != nil || len(events) != 1 || events[0].Detail["reason"] != reason || events[0].Detail["invite_id"] != i.ID {
				t.Errorf("%s: events = %+v, %v", reason, events, err)
			}
		}
		steve := f.createCustomer()
		_, code := f.issueInvite(steve, "")
		if _, err := f.EraseCustomer(t.Context(), f.tenant, steve, "key:test"); err != nil {
			t.Fatal(err)
		}
		if r := f.redeem("9", code); r.Outcome != claim.Declined {
			t.Errorf("decision after the erasure = %+v, want declined", r)
		}
		matt := f.createCustomer()
		f.issueInvite(matt, "")
		if err := f.DeleteInstance(t.Context(), f.tenant, f.instance, "key:test"); err != nil {
			t.Fatal(err)
		}
		if n := queryText(t, f.Store, `select cast(count(*) as text) from invites`); n != "0" {
			t.Errorf("%s invites left after deleting the instance, want 0", n)
		}
	})
}

// TestInvite_InstanceScoped tests that a code is valid only for its instance and channel.
func TestInvite_InstanceScoped(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		i, code := f.issueInvite(f.createCustomer(), "")
		other := newFixture(t, f.Store)
		a, _ := f.startRedemption("7", code)
		for name, change := range map[string]func(a *claim.Attempt){
			"instance": func(a *claim.Attempt) { a.InstanceID = other.instance },
			"channel":  func(a *claim.Attempt) { a.Channel = "sms" },
			"tenant":   func(a *claim.Attempt) { a.TenantID = newID() },
			"code":     func(a *claim.Attempt) { a.Code = claim.NewInviteCode() },
		} {
			b := a
			change(&b)
			if r := f.decideRedemption(b); r.Outcome != claim.Declined || r.Reason != "wrong" || !r.CountsAsFailure {
				t.Errorf("decision for another %s = %+v, want a wrong code", name, r)
			}
			exposed := 0
			if name == "channel" { // people also write it there
				exposed = 1
			}
			if st, err := f.ExposureState(t.Context(), b, []string{b.Code}); len(st.Invites) != exposed || err != nil {
				t.Errorf("ExposureState() for another %s = %v, %v, want %d invites", name, st, err, exposed)
			}
		}
		letters := []string{claim.NewInviteCode(), code, claim.NewInviteCode()}
		if st, err := f.ExposureState(t.Context(), a, letters); st.Invites[code].ID != i.ID || len(st.Invites) != 1 ||
			err != nil {
			t.Errorf("ExposureState() = %v, %v, want the invite %s", st, err, i.ID)
		}
		if err := f.RevokeInvite(t.Context(), claim.InviteKey{
			TenantID: f.tenant, CustomerID: i.CustomerID,
			InstanceID: other.instance, InviteID: i.ID,
		}, "key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other instance) = %v, want ErrNotFound", err)
		}
		if err := f.RevokeInvite(t.Context(), claim.InviteKey{TenantID: newID(), CustomerID: i.CustomerID, InviteID: i.ID},
			"key:test"); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other f.tenant) = %v, want ErrNotFound", err)
		}
		if err := f.RevokeInvite(t.Context(), claim.InviteKey{TenantID: f.tenant, CustomerID: newID(), InviteID: i.ID},
			"key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("RevokeInvite(other customer) = %v, want ErrNotFound", err)
		}
		if r := f.decideRedemption(a); r.Outcome != claim.Granted {
			t.Errorf("decision in the right instance = %+v, want granted", r)
		}
	})
}

// TestInvite_SurvivesKeyRotation redeems an invite after a new first master key was added. The row
// of the invite names the key that must be kept for it.
func TestInvite_SurvivesKeyRotation(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		_, code := f.issueInvite(f.createCustomer(), "")
		if id := queryText(t, f.Store, `select key_id from invites`); id != "k1" {
			t.Errorf("key ID of the invite = %q, want k1", id)
		}
		a, _ := f.startRedemption("7", code)
		k2 := keyring.GenerateKey("k2")
		if r := f.withKeys(k2).decideRedemption(a); r.Outcome != claim.Declined {
			t.Errorf("outcome without the key = %s, want %s", r.Outcome, claim.Declined)
		}
		if r := f.withKeys(k2, k1).decideRedemption(a); r.Outcome != claim.Granted {
			t.Errorf("outcome with both keys = %s, want %s", r.Outcome, claim.Granted)
		}
	})
}
