package store

import (
	"errors"
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// claimCode has the sender of a Telegram identity claim it with its code, which matches.
func (f *fixture) claimCode(sender string) {
	f.t.Helper()
	a, st := f.startRedemption(sender, "WDJBMJ")
	service := &claim.Service{Store: f.Store, Codes: fixedChecker{CheckResult: claim.CheckResult{Result: claim.Match}}}
	r, err := service.DecideRedemption(f.t.Context(), a)
	must(f.t, err)
	st.Claim = &r
	f.apply(st)
}

// setOwnerChannels sets the owner channels of an instance.
func (f *fixture) setOwnerChannels(instance string, channels *[]adapters.Channel) {
	f.t.Helper()
	i, err := f.EditInstance(f.t.Context(), f.tenant, instance,
		gateway.InstanceEdit{OwnerChannels: &gateway.OwnerChannelsEdit{Channels: channels}}, "key:test")
	must(f.t, err)
	if (i.OwnerChannels == nil) != (channels == nil) || channels != nil && len(*i.OwnerChannels) != len(*channels) {
		f.t.Fatalf("OwnerChannels = %v, want %v", i.OwnerChannels, channels)
	}
}

// TestClaim_OwnerChannels tests that a claim and an invite for an owner grant owner only on the owner
// channels of the instances for which the identity is valid.
func TestClaim_OwnerChannels(t *testing.T) {
	without, with := &[]adapters.Channel{adapters.Slack}, &[]adapters.Channel{adapters.Slack, adapters.Telegram}
	for _, tt := range []struct {
		name       string
		here       *[]adapters.Channel
		elsewhere  *[]adapters.Channel
		wide       bool // the identity is valid for all instances
		wantOwner  bool
		skipInvite bool
	}{
		{name: "default", wantOwner: true},
		{name: "listed", here: with, wantOwner: true},
		{name: "not listed", here: without},
		{name: "empty list", here: &[]adapters.Channel{}},
		{name: "not listed in another instance", elsewhere: without, wantOwner: true},
		{name: "for all instances, not listed in another", elsewhere: without, wide: true, skipInvite: true},
		{name: "for all instances, listed in another", elsewhere: with, wide: true, wantOwner: true, skipInvite: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				_, code := f.issueInvite(f.createCustomer(), identity.RoleOwner)
				f.setOwnerChannels(f.instance, tt.here)
				f.setOwnerChannels(newInstance(t, f.Store, f.tenant).ID, tt.elsewhere)
				newInstance(t, f.Store, newTenant(t, f.Store))
				customer, instance := f.createCustomer(), f.instance
				if tt.wide {
					instance = ""
				}
				id := f.link(customer, instance, "telegram", "7").ID
				_, _, err := f.IssueCode(
					t.Context(),
					identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
					"key:test",
				)
				must(t, err)
				f.claimCode("7")
				check := func(sender string) {
					want := identity.Verified
					if tt.wantOwner {
						want = identity.Owner
					}
					if got := f.senderIdentity(sender).Role(); got != want {
						t.Errorf("role of %s = %v, want %v", sender, got, want)
					}
				}
				check("7")
				if !tt.skipInvite {
					f.redeem("8", code)
					check("8")
				}
				_, _, err = (&claim.Service{Store: f.Store}).IssueInvite(t.Context(), claim.Invite{
					TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", CustomerID: f.createCustomer(),
					RoleOverride: identity.RoleOwner,
				}, "key:test")
				if excluded := errors.Is(err, claim.ErrOwnerExcluded); excluded != (tt.here != nil && !tt.wantOwner) {
					t.Errorf("IssueInvite() for an owner = %v", err)
				}
			})
		})
	}
}

// TestClaim_SelfServiceSuspected tests that a claim is recorded if the code came from the person who
// linked the account within the hour.
func TestClaim_SelfServiceSuspected(t *testing.T) {
	const one, other = identity.Actor("key:one"), identity.Actor("key:other")
	for _, tt := range []struct {
		name    string
		linker  identity.Actor
		issuer  identity.Actor
		prepare func(f *fixture, customer, id string)
		want    string // number of events
	}{
		{"one person", one, one, nil, "1"},
		{"two persons", other, one, nil, "0"},
		{"linked long ago", one, one, func(f *fixture, _, id string) {
			f.ageEvents(id, "identity.linked", 61)
		}, "0"},
		{"linked 59 minutes ago", one, one, func(f *fixture, _, id string) {
			f.ageEvents(id, "identity.linked", 59)
		}, "1"},
		{"linked to another customer and moved by a merge", one, one, func(f *fixture, customer, id string) {
			f.ageEvents(id, "identity.linked", 61)
			survivor := f.createCustomer()
			_, err := f.MergeCustomer(f.t.Context(), identity.MergeRequest{
				TenantID: f.tenant, CustomerID: customer, TargetID: survivor, MayGrant: true,
			}, one)
			must(f.t, err)
		}, "1"},
		{"code of another person reissued", one, one, func(f *fixture, customer, id string) {
			k := identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id}
			_, _, err := f.IssueCode(f.t.Context(), k, other)
			must(f.t, err)
		}, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				customer := f.createCustomer()
				i, err := f.Link(t.Context(), identity.Identity{
					TenantID: f.tenant, CustomerID: customer, InstanceID: f.instance, Channel: "telegram", ExternalID: "7",
				}, tt.linker)
				must(t, err)
				if tt.prepare != nil {
					tt.prepare(f, customer, i.ID)
				}
				owner := f.senderIdentity("7").CustomerID
				_, _, err = f.IssueCode(
					t.Context(),
					identity.Key{TenantID: f.tenant, CustomerID: owner, IdentityID: i.ID},
					tt.issuer,
				)
				must(t, err)
				f.claimCode("7")
				if !f.senderIdentity("7").IsVerified() {
					t.Fatal("the account is not verified")
				}
				if got := queryText(t, f.Store, `
					select cast(count(*) as text) from audit_events
					where kind = 'claim.self_service_suspected' and actor = 'key:one' and identity_id = $1 and customer_id = $2`,
					i.ID, owner); got != tt.want {
					t.Errorf("events = %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// ageEvents moves the events of a kind about an identity into the past.
func (f *fixture) ageEvents(id, kind string, minutes int) {
	f.t.Helper()
	if f.Engine() == "postgres" {
		mustExec(f.t, f.Store, `alter table audit_events disable trigger audit_events_keep`)
	} else {
		mustExec(f.t, f.Store, `drop trigger if exists audit_events_keep`)
	}
	mustExec(f.t, f.Store, `update audit_events set at = `+f.dialect.NowPlus(-60*minutes)+`
		where identity_id = $1 and kind = $2`, id, kind)
}
