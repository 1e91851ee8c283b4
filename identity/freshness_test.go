package identity

import (
	"testing"
	"time"
)

func TestStanding(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	owner := func(at time.Time) Identity { return Identity{CustomerID: "c", VerifiedAt: at, RoleOverride: RoleOwner} }
	customer := func(at time.Time) Identity { return Identity{CustomerID: "c", VerifiedAt: at} }
	doubted := func(i Identity, d Doubt) Identity { i.Doubt = d; return i }
	both := Freshness{OwnerDays: 30, CustomerDays: 90}
	for name, c := range map[string]struct {
		f    Freshness
		i    Identity
		want Standing
	}{
		"NoPolicy":             {Freshness{}, owner(ago(9999)), Standing{Owner, ""}},
		"FreshOwner":           {both, owner(ago(29)), Standing{Owner, ""}},
		"OnTheDay":             {both, owner(ago(30)), Standing{Owner, ""}},
		"OldOwner":             {both, owner(ago(31)), Standing{Verified, VerificationExpired}},
		"VeryOldOwner":         {both, owner(ago(91)), Standing{Unverified, VerificationExpired}},
		"OldOwnerNoCustomer":   {Freshness{OwnerDays: 30}, owner(ago(9999)), Standing{Verified, VerificationExpired}},
		"OwnerUnderCustomer":   {Freshness{CustomerDays: 7}, owner(ago(30)), Standing{Owner, ""}},
		"FreshCustomer":        {both, customer(ago(89)), Standing{Verified, ""}},
		"OldCustomer":          {both, customer(ago(91)), Standing{Unverified, VerificationExpired}},
		"Unverified":           {both, Identity{CustomerID: "c"}, Standing{Unverified, ""}},
		"Unknown":              {both, Identity{}, Standing{Unknown, ""}},
		"DoubtedOwner":         {Freshness{}, doubted(owner(now), Silent), Standing{Unverified, MayHaveChangedHands}},
		"DoubtedGone":          {Freshness{}, doubted(customer(now), Terminated), Standing{Unverified, MayHaveChangedHands}},
		"DoubtedAndOld":        {both, doubted(owner(ago(91)), Unwanted), Standing{Unverified, MayHaveChangedHands}},
		"ExpiredBeingReissued": {Freshness{}, doubted(Identity{CustomerID: "c"}, Expired), Standing{Unverified, VerificationExpired}},
	} {
		if got := c.f.Standing(c.i, now); got != c.want {
			t.Errorf("%s: %+v; want %+v", name, got, c.want)
		}
	}
}

func TestSilence(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	week := Freshness{SilenceDays: 7}
	for name, c := range map[string]struct {
		f               Freshness
		verified, heard time.Time
		want            bool
	}{
		"NoPolicy":        {Freshness{}, now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0), false},
		"Long":            {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -8), true},
		"Short":           {week, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -7), false},
		"VerifiedSince":   {week, now.AddDate(0, 0, -1), now.AddDate(0, 0, -60), false},
		"NeverHeard":      {week, now.AddDate(-1, 0, 0), time.Time{}, false},
		"NeverVerified":   {week, time.Time{}, now.AddDate(-1, 0, 0), false},
		"VerifiedLongAgo": {week, now.AddDate(0, 0, -8), now.AddDate(0, 0, -60), true},
	} {
		if got := c.f.Broken(Identity{CustomerID: "c", VerifiedAt: c.verified, LastHeardAt: c.heard}, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestVerifyingByHandEndsDoubt(t *testing.T) {
	yes, no := true, false
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := Identity{CustomerID: "c", VerifiedAt: t0, Doubt: Silent}
	if got := i.Apply(Edit{Verified: &yes}, t0.Add(time.Hour)); got.Doubt != "" || !got.VerifiedAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	if got := i.Apply(Edit{Verified: &no}, t0); got.Doubt != "" || got.IsVerified() {
		t.Errorf("%+v", got)
	}
	if got := i.Apply(Edit{}, t0); got.Doubt != Silent {
		t.Errorf("%+v", got)
	}
}
