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
	doubted := func(i Identity, d ExpiryReason) Identity { i.ExpiryReason = d; return i }
	both := VerificationPolicy{OwnerDays: 30, CustomerDays: 90}
	for name, c := range map[string]struct {
		f    VerificationPolicy
		i    Identity
		want EffectiveRole
	}{
		"NoPolicy":             {VerificationPolicy{}, owner(ago(9999)), EffectiveRole{Owner, ""}},
		"FreshOwner":           {both, owner(ago(29)), EffectiveRole{Owner, ""}},
		"OnTheDay":             {both, owner(ago(30)), EffectiveRole{Owner, ""}},
		"OldOwner":             {both, owner(ago(31)), EffectiveRole{Verified, VerificationExpired}},
		"VeryOldOwner":         {both, owner(ago(91)), EffectiveRole{Unverified, VerificationExpired}},
		"OldOwnerNoCustomer":   {VerificationPolicy{OwnerDays: 30}, owner(ago(9999)), EffectiveRole{Verified, VerificationExpired}},
		"OwnerUnderCustomer":   {VerificationPolicy{CustomerDays: 7}, owner(ago(30)), EffectiveRole{Owner, ""}},
		"FreshCustomer":        {both, customer(ago(89)), EffectiveRole{Verified, ""}},
		"OldCustomer":          {both, customer(ago(91)), EffectiveRole{Unverified, VerificationExpired}},
		"Unverified":           {both, Identity{CustomerID: "c"}, EffectiveRole{Unverified, ""}},
		"Unknown":              {both, Identity{}, EffectiveRole{Unknown, ""}},
		"DoubtedOwner":         {VerificationPolicy{}, doubted(owner(now), ExpiredByInactivity), EffectiveRole{Unverified, MayHaveChangedHands}},
		"DoubtedGone":          {VerificationPolicy{}, doubted(customer(now), ExpiredByTermination), EffectiveRole{Unverified, MayHaveChangedHands}},
		"DoubtedAndOld":        {both, doubted(owner(ago(91)), ExpiredByOptOut), EffectiveRole{Unverified, MayHaveChangedHands}},
		"ExpiredBeingReissued": {VerificationPolicy{}, doubted(Identity{CustomerID: "c"}, ExpiredByAge), EffectiveRole{Unverified, VerificationExpired}},
	} {
		if got := c.f.EffectiveRole(c.i, now); got != c.want {
			t.Errorf("%s: %+v; want %+v", name, got, c.want)
		}
	}
}

func TestVerificationPolicy_InactivityExceeded(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	week := VerificationPolicy{InactivityDays: 7}
	for name, c := range map[string]struct {
		f               VerificationPolicy
		verified, heard time.Time
		want            bool
	}{
		"NoPolicy":        {VerificationPolicy{}, now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0), false},
		"Long":            {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -8), true},
		"Short":           {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -7), false},
		"VerifiedSince":   {week, now.AddDate(0, 0, -1), now.AddDate(0, 0, -60), false},
		"NeverHeard":      {week, now.AddDate(-1, 0, 0), time.Time{}, false},
		"NeverVerified":   {week, time.Time{}, now.AddDate(-1, 0, 0), false},
		"VerifiedLongAgo": {week, now.AddDate(0, 0, -8), now.AddDate(0, 0, -60), true},
	} {
		if got := c.f.InactivityExceeded(Identity{CustomerID: "c", VerifiedAt: c.verified, LastSeenAt: c.heard}, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestApply_ClearsExpiryReason(t *testing.T) {
	yes, no := true, false
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := Identity{CustomerID: "c", VerifiedAt: t0, ExpiryReason: ExpiredByInactivity}
	if got := i.Apply(Edit{Verified: &yes}, t0.Add(time.Hour)); got.ExpiryReason != "" || !got.VerifiedAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	if got := i.Apply(Edit{Verified: &no}, t0); got.ExpiryReason != "" || got.IsVerified() {
		t.Errorf("%+v", got)
	}
	if got := i.Apply(Edit{}, t0); got.ExpiryReason != ExpiredByInactivity {
		t.Errorf("%+v", got)
	}
}
