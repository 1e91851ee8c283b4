package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hydragate/identity"
)

func (f *fixture) undoMerge(id string) identity.Customer {
	f.t.Helper()
	c, err := f.UndoMerge(f.t.Context(), f.tenant, id, true, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func TestUndoMerge(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("a@example.com", 2)
		b, bIDs := f.createCustomerWith("b@example.com", 1)
		conversation := newConversation(t, f.Store, f.tenant, f.instance, aIDs[0])
		before, _ := f.Customer(t.Context(), f.tenant, a)
		mustExec(t, f.Store, `update customers set fk_id = 'crm-1' where id = $1`, a)
		if m := f.mergeCustomer(a, b); m.IdentityCount != 2 || m.TargetID != b || m.UndoUntil().Sub(m.At) != 30*24*time.Hour {
			t.Errorf("MergeCustomer() = %+v", m)
		}
		if _, err := f.Customer(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("Customer(merged) = %v, want ErrNotFound", err)
		}
		if into, err := f.MergedInto(t.Context(), f.tenant, a); into != b || err != nil {
			t.Errorf("MergedInto() = %s, %v, want %s", into, err, b)
		}
		f.wantIdentities(b, append(bIDs, aIDs...)...)
		if c, _ := f.Customer(t.Context(), f.tenant, b); c.Email != "b@example.com" {
			t.Errorf("e-mail address of the target = %s, want b@example.com", c.Email)
		}
		if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`,
			conversation); with != aIDs[0] {
			t.Error("the conversation lost its identity")
		}
		if c := f.undoMerge(a); fmt.Sprint(c) != fmt.Sprint(before) {
			t.Errorf("restored = %v\nbefore   = %v", c, before)
		}
		if fk := queryText(t, f.Store, `select fk_id from customers where id = $1`, a); fk != "crm-1" {
			t.Errorf("fk_id = %q, want crm-1", fk)
		}
		f.wantIdentities(a, aIDs...)
		f.wantIdentities(b, bIDs...)
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("second UndoMerge() = %v, want ErrNotFound", err)
		}
		if _, err := f.MergedInto(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("MergedInto() after undo = %v, want ErrNotFound", err)
		}
		if n := queryText(t, f.Store, `select cast(count(*) as text) from merged_identities where tenant_id = $1`,
			f.tenant); n != "0" {
			t.Errorf("%s rows left in merged_identities, want 0", n)
		}
		kinds := map[string]int{}
		for _, e := range auditLog(t, f.Store, f.tenant) {
			kinds[e.Kind]++
		}
		if kinds["customer.merged"] != 1 || kinds["customer.absorbed"] != 1 || kinds["customer.unmerged"] != 1 ||
			kinds["customer.released"] != 1 || kinds["identity.moved"] != 4 {
			t.Errorf("events = %v", kinds)
		}
	})
}

func TestUndoMerge_ChainReversed(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("a@example.com", 1)
		b, bIDs := f.createCustomerWith("b@example.com", 1)
		c, cIDs := f.createCustomerWith("", 1)
		f.mergeCustomer(a, b)
		f.mergeCustomer(b, c)
		f.undoMerge(a)
		f.wantIdentities(a, aIDs[0])
		f.wantIdentities(c, bIDs[0], cIDs[0])
		f.undoMerge(b)
		f.wantIdentities(a, aIDs[0])
		f.wantIdentities(b, bIDs[0])
		f.wantIdentities(c, cIDs[0])
	})
}

// TestUndoMerge_MergedAgain tests that undoing an older merge does not take identities that were returned and
// moved again by a newer merge.
func TestUndoMerge_MergedAgain(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("", 1)
		b, bIDs := f.createCustomerWith("", 1)
		c, cIDs := f.createCustomerWith("", 1)
		f.mergeCustomer(a, b)
		f.mergeCustomer(b, c)
		f.undoMerge(a)
		f.mergeCustomer(a, c)
		f.undoMerge(b)
		f.wantIdentities(b, bIDs[0])
		f.wantIdentities(c, aIDs[0], cIDs[0])
	})
}

func TestUndoMerge_OnlyMovedIdentities(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("", 2)
		b, bIDs := f.createCustomerWith("", 1)
		f.mergeCustomer(a, b)
		later := f.link(b, "", "telegram", newID()).ID
		if err := f.Unlink(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: b, IdentityID: aIDs[0]},
			identity.System); err != nil {
			t.Fatal(err)
		}
		f.undoMerge(a)
		f.wantIdentities(a, aIDs[1])
		f.wantIdentities(b, bIDs[0], later)
	})
}

func TestUndoMerge_EmailReused(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("a@example.com", 1)
		b, bIDs := f.createCustomerWith("b@example.com", 0)
		f.mergeCustomer(a, b)
		other, _ := f.createCustomerWith("A@example.com", 0)
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err,
			identity.ErrIdentifierReused) {
			t.Errorf("UndoMerge() = %v, want ErrIdentifierReused", err)
		}
		f.wantIdentities(b, append(bIDs, aIDs...)...)
		free := ""
		if _, err := f.EditCustomer(t.Context(), f.tenant, other, identity.CustomerEdit{Email: &free},
			identity.System); err != nil {
			t.Fatal(err)
		}
		f.undoMerge(a)
		f.wantIdentities(a, aIDs...)
	})
}

func TestUndoMerge_Expired(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("a@example.com", 1)
		b := f.createCustomer()
		f.mergeCustomer(a, b)
		purge := func() {
			t.Helper()
			if _, err := f.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, f.Store,
			`update customer_merges set merged_at = `+f.dialect.NowPlus(-29*24*60*60)+` where customer_id = $1`, a)
		purge()
		f.undoMerge(a)
		f.mergeCustomer(a, b)
		mustExec(t, f.Store,
			`update customer_merges set merged_at = `+f.dialect.NowPlus(-30*24*60*60-10)+` where customer_id = $1`, a)
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("UndoMerge() after 30 days = %v, want ErrNotFound", err)
		}
		purge()
		for _, table := range []string{"merged_customers", "merged_identities"} {
			if n := queryText(t, f.Store, `select cast(count(*) as text) from `+table+` where tenant_id = $1`,
				f.tenant); n != "0" {
				t.Errorf("%s rows left in %s, want 0", n, table)
			}
		}
		if into, err := f.MergedInto(t.Context(), f.tenant, a); into != b || err != nil {
			t.Errorf("MergedInto() after the purge = %s, %v, want %s", into, err, b)
		}
		f.wantIdentities(b, aIDs...)
	})
}

func TestUndoMerge_SurvivorDeleted(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, _ := f.createCustomerWith("a@example.com", 1)
		b, _ := f.createCustomerWith("", 1)
		f.mergeCustomer(a, b)
		if _, err := f.DeleteCustomer(t.Context(), f.tenant, b, identity.System); err != nil {
			t.Fatal(err)
		}
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("UndoMerge() = %v, want ErrNotFound", err)
		}
		if _, err := f.MergedInto(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("MergedInto() = %v, want ErrNotFound", err)
		}
	})
}
