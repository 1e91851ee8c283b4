package identity

import (
	"testing"
	"time"
)

func TestVerificationPolicy_EffectiveRole(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	owner := func(at time.Time) Identity { return Identity{CustomerID: "c", VerifiedAt: at, RoleOverride: RoleOwner} }
	customer := func(at time.Time) Identity { return Identity{CustomerID: "c", VerifiedAt: at} }
	withReason := func(i Identity, d ExpiryReason) Identity { i.ExpiryReason = d; return i }
	both := VerificationPolicy{OwnerDays: 30, CustomerDays: 90}
	for name, c := range map[string]struct {
		p    VerificationPolicy
		i    Identity
		want EffectiveRole
	}{
		"no policy":          {VerificationPolicy{}, owner(ago(9999)), EffectiveRole{Owner, ""}},
		"recent owner":       {both, owner(ago(29)), EffectiveRole{Owner, ""}},
		"owner at the limit": {both, owner(ago(30)), EffectiveRole{Owner, ""}},
		"old owner":          {both, owner(ago(31)), EffectiveRole{Verified, VerificationExpired}},
		"very old owner":     {both, owner(ago(91)), EffectiveRole{Unverified, VerificationExpired}},
		"old owner without a limit for customers": {
			VerificationPolicy{OwnerDays: 30}, owner(ago(9999)), EffectiveRole{Verified, VerificationExpired},
		},
		"limit for customers alone": {
			VerificationPolicy{CustomerDays: 7}, owner(ago(30)), EffectiveRole{Owner, ""},
		},
		"recent customer": {both, customer(ago(89)), EffectiveRole{Verified, ""}},
		"old customer":    {both, customer(ago(91)), EffectiveRole{Unverified, VerificationExpired}},
		"unverified":      {both, Identity{CustomerID: "c"}, EffectiveRole{Unverified, ""}},
		"unknown":         {both, Identity{}, EffectiveRole{Unknown, ""}},
		"owner after inactivity": {
			VerificationPolicy{}, withReason(owner(now), ExpiredByInactivity), EffectiveRole{Unverified, MayHaveChangedHands},
		},
		"customer after termination": {
			VerificationPolicy{},
			withReason(customer(now), ExpiredByTermination),
			EffectiveRole{Unverified, MayHaveChangedHands},
		},
		"opted out and old": {
			both, withReason(owner(ago(91)), ExpiredByOptOut), EffectiveRole{Unverified, MayHaveChangedHands},
		},
		"reissued after expiry": {
			VerificationPolicy{},
			withReason(Identity{CustomerID: "c"}, ExpiredByAge),
			EffectiveRole{Unverified, VerificationExpired},
		},
	} {
		if got := c.p.EffectiveRole(c.i, now); got != c.want {
			t.Errorf("%s: EffectiveRole = %+v, want %+v", name, got, c.want)
		}
	}
}

func TestVerificationPolicy_InactivityExceeded(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	week, atLimit := VerificationPolicy{InactivityDays: 7}, now.AddDate(0, 0, -7).Add(-LastSeenPrecision)
	for name, c := range map[string]struct {
		p                  VerificationPolicy
		verified, lastSeen time.Time
		want               bool
	}{
		"no policy":                       {VerificationPolicy{}, now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0), false},
		"long":                            {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -8), true},
		"short":                           {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -7), false},
		"at the limit":                    {week, now.AddDate(-1, 0, 0), atLimit, false},
		"verified after the last message": {week, now.AddDate(0, 0, -1), now.AddDate(0, 0, -60), false},
		"never seen":                      {week, now.AddDate(-1, 0, 0), time.Time{}, false},
		"never verified":                  {week, time.Time{}, now.AddDate(-1, 0, 0), false},
		"verified long ago":               {week, now.AddDate(0, 0, -8), now.AddDate(0, 0, -60), true},
	} {
		i := Identity{CustomerID: "c", VerifiedAt: c.verified, LastSeenAt: c.lastSeen}
		if got := c.p.InactivityExceeded(i, now); got != c.want {
			t.Errorf("%s: InactivityExceeded = %v, want %v", name, got, c.want)
		}
	}
}

func TestApply_ClearsExpiryReason(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := Identity{CustomerID: "c", VerifiedAt: t0, ExpiryReason: ExpiredByInactivity}
	later := t0.Add(time.Hour)
	if got := i.Apply(Edit{Verified: new(true)}, later); got.ExpiryReason != "" || !got.VerifiedAt.Equal(later) {
		t.Errorf("Apply(verified) = %+v, want verified at %v", got, later)
	}
	if got := i.Apply(Edit{Verified: new(false)}, t0); got.ExpiryReason != "" || got.IsVerified() {
		t.Errorf("Apply(not verified) = %+v, want not verified", got)
	}
	if got := i.Apply(Edit{}, t0); got.ExpiryReason != ExpiredByInactivity {
		t.Errorf("Apply(no change) = %+v, want reason %q", got, ExpiredByInactivity)
	}
}
