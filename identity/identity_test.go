package identity

import (
	"testing"
	"time"
)

func TestRole(t *testing.T) {
	now := time.Now()
	for want, i := range map[Role]Identity{
		Unknown:    {RoleOverride: RoleOwner, VerifiedAt: now},
		Unverified: {CustomerID: "c", RoleOverride: RoleOwner},
		Verified:   {CustomerID: "c", VerifiedAt: now},
		Owner:      {CustomerID: "c", VerifiedAt: now, RoleOverride: RoleOwner},
	} {
		if got := i.Role(); got != want {
			t.Errorf("%+v: Role = %s, want %s", i, got, want)
		}
	}
}

func TestApply_KeepsFirstVerifiedAt(t *testing.T) {
	yes, no := true, false
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := Identity{}.Apply(Edit{Verified: &yes}, t0).Apply(Edit{Verified: &yes}, t0.Add(time.Hour))
	if !i.VerifiedAt.Equal(t0) || !i.UpdatedAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("VerifiedAt = %v, UpdatedAt = %v, want %v and an hour later", i.VerifiedAt, i.UpdatedAt, t0)
	}
	if i = i.Apply(Edit{Verified: &no}, t0); i.IsVerified() {
		t.Error("IsVerified = true after Verified was set to false")
	}
}
