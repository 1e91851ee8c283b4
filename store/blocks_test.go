package store

import (
	"errors"
	"testing"

	"hydragate/identity"
)

func TestBlockSender(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve, owned := f.createCustomerWith("", 1)
		u := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			ExternalID: "777",
		})
		a := identity.Address{TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "777"}
		wantBlocked := func(want bool) {
			t.Helper()
			if got, err := f.IsSenderBlocked(t.Context(), a); err != nil || got != want {
				t.Errorf("IsSenderBlocked() = %v, %v, want %v", got, err, want)
			}
		}
		wantBlocked(false)
		since, err := f.BlockSender(t.Context(), identity.SenderKey{TenantID: f.tenant, IdentityID: u.ID}, "key:1")
		if err != nil || since.IsZero() {
			t.Fatalf("BlockSender() = %v, %v", since, err)
		}
		if again, err := f.BlockSender(t.Context(), identity.SenderKey{
			TenantID: f.tenant, InstanceID: f.instance,
			IdentityID: u.ID,
		}, "key:1"); err != nil || !again.Equal(since) {
			t.Errorf("second BlockSender() = %v, %v, want %v", again, err, since)
		}
		wantBlocked(true)
		for range 2 {
			if err := f.UnblockSender(t.Context(), identity.SenderKey{
				TenantID: f.tenant, InstanceID: f.instance,
				IdentityID: u.ID,
			}, "key:1"); err != nil {
				t.Fatal(err)
			}
		}
		wantBlocked(false)
		if _, err := f.BlockSender(t.Context(), identity.SenderKey{TenantID: f.tenant, IdentityID: u.ID},
			"key:1"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ tenant, instance, id string }{
			{f.tenant, newID(), u.ID},
			{newTenant(t, f.Store), "", u.ID},
			{f.tenant, "", newID()},
			{f.tenant, "", "x"},
		} {
			if _, err := f.BlockSender(t.Context(), identity.SenderKey{
				TenantID: c.tenant, InstanceID: c.instance,
				IdentityID: c.id,
			}, "key:1"); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("BlockSender(%+v) = %v, want ErrNotFound", c, err)
			}
		}
		if _, err := f.BlockSender(t.Context(), identity.SenderKey{TenantID: f.tenant, IdentityID: owned[0]},
			"key:1"); !errors.Is(err, identity.ErrAlreadyLinked) {
			t.Errorf("BlockSender(identity of a customer) = %v, want ErrAlreadyLinked", err)
		}
		// Linking the sender to a customer ends the block.
		if _, err := f.Adopt(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: u.ID},
			"key:1"); err != nil {
			t.Fatal(err)
		}
		wantBlocked(false)
		if n := queryText(t, f.Store,
			`select cast(count(*) as text) from identities where tenant_id = $1 and refused_at is not null`,
			f.tenant); n != "0" {
			t.Error("an adopted sender is still blocked")
		}
		kinds := map[string]int{}
		for _, e := range auditLog(t, f.Store, f.tenant) {
			kinds[e.Kind]++
		}
		if kinds["identity.blocked"] != 2 || kinds["identity.unblocked"] != 1 {
			t.Errorf("events = %v, want two blocks and one unblock", kinds)
		}
	})
}
