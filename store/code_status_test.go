package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// TestCodeStatus_States checks the state of the last code after everything that can happen to it.
func TestCodeStatus_States(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		const by = identity.Actor("key:matt")
		for _, tt := range []struct {
			name   string
			issue  bool
			change func(k identity.Key, gen int64)
			want   claim.CodeStatusState
			tries  int
		}{
			{"never issued", false, func(identity.Key, int64) {}, claim.StateNone, 0},
			{"live", true, func(identity.Key, int64) {}, claim.StateLive, 0},
			{"expired", true, func(k identity.Key, _ int64) {
				mustExec(t, f.Store, `update identities set claim_expires_at = $1 where id = $2`,
					time.Now().UTC().Add(-time.Minute), k.IdentityID)
			}, claim.StateExpired, 0},
			{"revoked by staff", true, func(k identity.Key, gen int64) {
				target, err := f.RevokeCode(t.Context(), k, by)
				if err != nil || target.Gen != gen {
					t.Errorf("RevokeCode() = %+v, %v, want generation %d", target, err, gen)
				}
			}, claim.StateRevoked, 0},
			{"locked", true, func(k identity.Key, gen int64) {
				f.recordFailures(k, gen, "wrong", "wrong", "wrong", "wrong", "wrong")
			}, claim.StateLocked, 5},
			{"reissued after it was locked", true, func(k identity.Key, gen int64) {
				f.recordFailures(k, gen, "wrong", "wrong", "wrong", "wrong", "wrong")
				if _, _, err := f.IssueCode(t.Context(), k, by); err != nil {
					t.Error(err)
				}
				f.recordFailures(k, 0, "wrong", "expired")
			}, claim.StateLive, 1},
			{"redeemed", true, func(k identity.Key, _ int64) {
				mustExec(t, f.Store, `update identities set claim_used_msg = $1 where id = $2`, newID(), k.IdentityID)
			}, claim.StateRedeemed, 0},
			{"verified by hand", true, func(k identity.Key, _ int64) {
				yes, no := true, false
				for _, verified := range []*bool{&yes, &no} {
					if _, err := f.EditIdentity(t.Context(), k, identity.Edit{Verified: verified}, by); err != nil {
						t.Error(err)
					}
				}
			}, claim.StateRevoked, 0},
		} {
			customer, id := f.createCustomerIdentity(newID())
			k := identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id}
			var gen int64
			if tt.issue {
				target, _, err := f.IssueCode(t.Context(), k, by)
				must(t, err)
				gen = target.Gen
			}
			tt.change(k, gen)
			got, err := f.CodeStatus(t.Context(), k, "")
			if err != nil || got.State != tt.want || got.WrongTries != tt.tries {
				t.Errorf("%s: CodeStatus() = %s with %d wrong tries, %v, want %s with %d",
					tt.name, got.State, got.WrongTries, err, tt.want, tt.tries)
			}
			if live := got.ExpiresIn > 14*time.Minute; live != (tt.want == claim.StateLive) {
				t.Errorf("%s: code expires in %v", tt.name, got.ExpiresIn)
			}
			if tt.issue && (got.IssuedBy != by || time.Since(got.IssuedAt) > time.Minute || got.LastEvent.Kind == "") {
				t.Errorf("%s: issued by %q at %v, last event %+v", tt.name, got.IssuedBy, got.IssuedAt, got.LastEvent)
			}
		}
	})
}

// recordFailures records failed attempts and, after five, that the code of the generation is locked.
func (f *fixture) recordFailures(k identity.Key, gen int64, reasons ...string) {
	f.t.Helper()
	event := identity.Event{TenantID: k.TenantID, CustomerID: k.CustomerID, IdentityID: k.IdentityID, Actor: "sender:x"}
	for _, reason := range reasons {
		event.Kind, event.Detail = "claim.failed", map[string]string{"reason": reason}
		must(f.t, f.Audit(f.t.Context(), event))
	}
	if len(reasons) == claim.MaxTries {
		event.Kind = "claim.locked"
		must(f.t, f.Audit(f.t.Context(), event))
		mustExec(f.t, f.Store, `update identities set claim_revoked_at = $1 where id = $2 and claim_gen = $3`,
			time.Now().UTC(), k.IdentityID, gen)
	}
}

// TestCodeStatus_Warnings checks each warning, and the choice of the bot.
func TestCodeStatus_Warnings(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, _ := f.createCustomerWith("steve@example.com", 0)
		i := f.link(customer, "", "telegram", "7")
		k := identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: i.ID}
		expect := func(step, instance string, want ...claim.Warning) claim.CodeStatus {
			t.Helper()
			got, err := f.CodeStatus(t.Context(), k, instance)
			if err != nil || !slices.Equal(got.Warnings(false), want) {
				t.Errorf("%s: warnings = %v, %v, want %v", step, got.Warnings(false), err, want)
			}
			return got
		}
		expect("new", "", claim.NeverSeen, claim.LinkedMinutesAgo, claim.ChannelNotConnected)
		mustExec(t, f.Store, `
			insert into endpoints (id, tenant_id, instance_id, channel, mode, status, credentials, created_at, updated_at)
			values ($1, $2, $3, 'telegram', 'webhook', 'active', '', $4, $4)`, newID(), f.tenant, f.instance, time.Now().UTC())
		if got := expect("connected", "", claim.NeverSeen, claim.LinkedMinutesAgo); got.Bot.InstanceID != f.instance {
			t.Errorf("bot = %+v, want that of %s", got.Bot, f.instance)
		}
		other := newInstance(t, f.Store, f.tenant)
		expect("seen from another instance", other.ID, claim.NeverSeen, claim.LinkedMinutesAgo, claim.ChannelNotConnected)
		f.insertMessages(f.arrival("7", "k1", "hello"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		f.apply(gateway.Commit{Lease: l, Release: true, Participant: &gateway.ConversationParticipant{
			ConversationID: l.ConversationID, TenantID: f.tenant,
			Address: identity.Address{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "7"},
		}})
		got := expect("wrote", "", claim.LinkedMinutesAgo)
		if time.Since(got.FirstSeenAt) > time.Minute || time.Since(got.LastSeenAt) > time.Minute ||
			got.LastSeenAt.Before(got.FirstSeenAt.Add(-time.Second)) {
			t.Errorf("first seen %v, last seen %v, want now", got.FirstSeenAt, got.LastSeenAt)
		}
		if got.Customer.Email != "steve@example.com" || got.Customer.FullName() != "Steve" {
			t.Errorf("customer = %+v", got.Customer)
		}
		yes := true
		verified := f.link(customer, f.instance, "sms", "+14155550100")
		_, err := f.EditIdentity(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: verified.ID},
			identity.Edit{Verified: &yes}, identity.System)
		must(t, err)
		expect("other account", "", claim.LinkedMinutesAgo, claim.OtherVerifiedAccounts)
		expect("other account elsewhere", other.ID, claim.LinkedMinutesAgo, claim.ChannelNotConnected)
		mustExec(t, f.Store, `update identities set verified_at = $1, doubt = 'silence' where id = $2`,
			time.Now().UTC(), i.ID)
		expect("expired", "", claim.LinkedMinutesAgo, claim.OtherVerifiedAccounts, claim.VerificationExpired)
		if _, err := f.CodeStatus(t.Context(), identity.Key{
			TenantID: newTenant(t, f.Store), CustomerID: customer, IdentityID: i.ID,
		}, ""); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("CodeStatus() in another tenant = %v, want ErrNotFound", err)
		}
		if s := (claim.CodeStatus{FirstSeenAt: time.Now(), Bot: claim.Bot{Connected: true}}); !slices.Equal(
			s.Warnings(adapters.TraitsOf(adapters.SMS).CarrierOnly), []claim.Warning{claim.CarrierProofOnly},
		) {
			t.Errorf("warnings of SMS = %v", s.Warnings(true))
		}
	})
}
