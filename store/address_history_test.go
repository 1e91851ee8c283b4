package store

import (
	"errors"
	"strings"
	"testing"

	"hydragate/identity"
)

// formatHistory returns the history of an address as text: the name of each owner, with "…" for the
// present one.
func (f *fixture) formatHistory(a identity.Address, names map[string]string) string {
	f.t.Helper()
	a.TenantID = f.tenant
	os, err := f.AddressHistory(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	var entries []string
	for _, o := range os {
		entry := names[o.CustomerID]
		if !o.ErasedAt.IsZero() {
			entry += " (" + o.ExternalID[:7] + ")"
		}
		if o.Until.IsZero() {
			entry += "…"
		} else if o.Until.Before(o.Since) {
			entry += " backwards"
		}
		entries = append(entries, entry)
	}
	return strings.Join(entries, ", ")
}

// TestAddressHistory changes the owner of an address in every possible way.
func TestAddressHistory(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve := f.createCustomer()
		matt := f.createCustomer()
		names := map[string]string{steve: "Steve", matt: "Matt"}
		a := identity.Address{Channel: "telegram", ExternalID: "12345"}
		want := func(history string) {
			t.Helper()
			if got := f.formatHistory(a, names); got != history {
				t.Errorf("history = %q, want %q", got, history)
			}
		}
		u := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: a.Channel,
			ExternalID: a.ExternalID,
		})
		want("")
		if at, err := f.IdentityAddress(t.Context(), f.tenant, u.ID); err != nil || at.ExternalID != "12345" ||
			at.InstanceID != f.instance {
			t.Errorf("IdentityAddress(unknown sender) = %+v, %v", at, err)
		}
		if _, err := f.Adopt(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: u.ID},
			identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve…")
		if err := f.Unlink(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: u.ID},
			identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve")
		if at, err := f.IdentityAddress(t.Context(), f.tenant, u.ID); err != nil || at.ExternalID != "12345" {
			t.Errorf("IdentityAddress(deleted) = %+v, %v", at, err)
		}
		i, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.tenant, CustomerID: matt, Channel: a.Channel,
			ExternalID: a.ExternalID,
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.EditIdentity(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: matt, IdentityID: i.ID},
			identity.Edit{DisplayName: new(string)},
			identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve, Matt…")
		f.mergeCustomer(matt, steve)
		want("Steve, Matt, Steve…")
		f.undoMerge(matt)
		want("Steve, Matt, Steve, Matt…")
		if os, err := f.CustomerHistory(t.Context(), f.tenant, steve); err != nil || len(os) != 2 ||
			os[0].IdentityID != u.ID {
			t.Errorf("CustomerHistory(steve) = %+v, %v", os, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, steve, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve (erased:), Matt, Steve (erased:), Matt…")
		if at, err := f.IdentityAddress(t.Context(), f.tenant, u.ID); err != nil ||
			!strings.HasPrefix(at.ExternalID, "erased:") {
			t.Errorf("IdentityAddress(erased) = %+v, %v, want a pseudonym", at, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, matt, identity.System); err != nil {
			t.Fatal(err)
		}
		want("Steve (erased:), Matt (erased:), Steve (erased:), Matt (erased:)")
		for _, c := range [][2]string{{newTenant(t, f.Store), u.ID}, {f.tenant, newID()}, {f.tenant, "x"}} {
			if _, err := f.IdentityAddress(t.Context(), c[0], c[1]); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("IdentityAddress(%v) = %v, want ErrNotFound", c, err)
			}
		}
	})
}

// TestAddressHistory_InstanceDeleted tests that identities deleted by a cascade are recorded.
func TestAddressHistory_InstanceDeleted(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve := f.createCustomer()
		_, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.tenant, CustomerID: steve, InstanceID: f.instance,
			Channel: "telegram", ExternalID: "777",
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteInstance(t.Context(), f.tenant, f.instance, identity.System); err != nil {
			t.Fatal(err)
		}
		if got := f.formatHistory(identity.Address{Channel: "telegram", ExternalID: "777"},
			map[string]string{steve: "Steve"}); got != "Steve" {
			t.Errorf("history = %q, want Steve", got)
		}
	})
}
