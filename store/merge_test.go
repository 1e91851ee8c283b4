package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/identity"
)

// a family is a tenant with an instance, in which customers are merged.
type family struct {
	*Store
	t                *testing.T
	tenant, instance string
	serial           int
}

func newFamily(t *testing.T, s *Store) *family {
	f := &family{Store: s, t: t, tenant: newTenant(t, s)}
	f.instance = newInstance(t, s, f.tenant).ID
	return f
}

func families(t *testing.T, tests map[string]func(*testing.T, *family)) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, newFamily(t, s)) })
		}
	})
}

// customer makes a customer with so many identities.
func (f *family) customer(email string, identities int) (id string, linked []string) {
	f.t.Helper()
	c, err := f.CreateCustomer(f.t.Context(), identity.Customer{TenantID: f.tenant, Email: email, FirstName: "Steve", Metadata: []byte(`{"a":1}`)}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	for range identities {
		linked = append(linked, f.link(c.ID))
	}
	return c.ID, linked
}

func (f *family) link(customer string) string {
	f.t.Helper()
	f.serial++
	i, err := f.Link(f.t.Context(), identity.Identity{TenantID: f.tenant, CustomerID: customer, Channel: "telegram", ExternalID: fmt.Sprint(f.serial)}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return i.ID
}

func (f *family) merge(id, into string) identity.Merge {
	f.t.Helper()
	m, err := f.MergeCustomer(f.t.Context(), f.tenant, id, into, true, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *family) undo(id string) identity.Customer {
	f.t.Helper()
	c, err := f.UndoMerge(f.t.Context(), f.tenant, id, true, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// owns fails the test unless a customer has just these identities.
func (f *family) owns(customer string, want ...string) {
	f.t.Helper()
	is, err := f.CustomerIdentities(f.t.Context(), f.tenant, customer, "")
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, i := range is {
		got = append(got, i.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.t.Errorf("the customer has %v; want %v", got, want)
	}
}

func TestMerge(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){
		"ThereAndBack": mergedAndBack, "Chain": chain, "ChainBackToFront": chainFromTheFront, "MergedAgainElsewhere": mergedAgain,
		"OnlyWhatMovedAndIsStillThere": onlyWhatMoved, "EmailTakenMeanwhile": reclaimed, "ThirtyDays": thirtyDays, "OfSomebodyElse": notTheirs,
		"AtOnce": mergesAtOnce, "LinkAtOnce": mergeAndLink, "DeletedSurvivor": deletedSurvivor, "Rights": rightsMove, "Codes": codesEnd,
	})
}

func mergedAndBack(t *testing.T, f *family) {
	a, as := f.customer("a@example.com", 2)
	b, bs := f.customer("b@example.com", 1)
	talk := newConversation(t, f.Store, f.tenant, f.instance, as[0])
	was, _ := f.Customer(t.Context(), f.tenant, a)
	mustExec(t, f.Store, `update customers set fk_id = 'crm-1' where id = $1`, a)
	if m := f.merge(a, b); m.Identities != 2 || m.Into != b || m.UndoUntil().Sub(m.At) != 30*24*time.Hour {
		t.Errorf("%+v", m)
	}
	if _, err := f.Customer(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("the merged customer: %v", err)
	}
	if into, err := f.Survivor(t.Context(), f.tenant, a); into != b || err != nil {
		t.Errorf("survivor %s, %v", into, err)
	}
	f.owns(b, append(bs, as...)...)
	if c, _ := f.Customer(t.Context(), f.tenant, b); c.Email != "b@example.com" {
		t.Errorf("the survivor's e-mail address is %s", c.Email)
	}
	if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`, talk); with != as[0] {
		t.Error("the conversation lost its person")
	}
	if c := f.undo(a); fmt.Sprint(c) != fmt.Sprint(was) {
		t.Errorf("back: %v\nwas:  %v", c, was)
	}
	if fk := queryText(t, f.Store, `select fk_id from customers where id = $1`, a); fk != "crm-1" {
		t.Errorf("a column was lost: %q", fk)
	}
	f.owns(a, as...)
	f.owns(b, bs...)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone twice: %v", err)
	}
	if _, err := f.Survivor(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("still merged: %v", err)
	}
	if n := queryText(t, f.Store, `select cast(count(*) as text) from merged_identities where tenant_id = $1`, f.tenant); n != "0" {
		t.Errorf("%s identities still noted as moved", n)
	}
	kinds := map[string]int{}
	for _, e := range auditLog(t, f.Store, f.tenant) {
		kinds[e.Kind]++
	}
	if kinds["customer.merged"] != 1 || kinds["customer.absorbed"] != 1 || kinds["customer.unmerged"] != 1 || kinds["customer.released"] != 1 || kinds["identity.moved"] != 4 {
		t.Errorf("events %v", kinds)
	}
}

func chain(t *testing.T, f *family) {
	a, as := f.customer("a@example.com", 1)
	b, bs := f.customer("b@example.com", 1)
	c, cs := f.customer("", 1)
	f.merge(a, b)
	f.merge(b, c)
	f.owns(c, as[0], bs[0], cs[0])
	if into, err := f.Survivor(t.Context(), f.tenant, a); into != c || err != nil {
		t.Errorf("survivor %s, %v; want the last of the chain", into, err)
	}
	f.undo(b)
	f.owns(b, as[0], bs[0])
	f.owns(c, cs[0])
	f.undo(a)
	f.owns(a, as[0])
	f.owns(b, bs[0])
}

func chainFromTheFront(t *testing.T, f *family) {
	a, as := f.customer("a@example.com", 1)
	b, bs := f.customer("b@example.com", 1)
	c, cs := f.customer("", 1)
	f.merge(a, b)
	f.merge(b, c)
	f.undo(a)
	f.owns(a, as[0])
	f.owns(c, bs[0], cs[0])
	f.undo(b)
	f.owns(a, as[0])
	f.owns(b, bs[0])
	f.owns(c, cs[0])
}

// mergedAgain: what went back and came again by another way is not the older merge's
// to give.
func mergedAgain(t *testing.T, f *family) {
	a, as := f.customer("", 1)
	b, bs := f.customer("", 1)
	c, cs := f.customer("", 1)
	f.merge(a, b)
	f.merge(b, c)
	f.undo(a)
	f.merge(a, c)
	f.undo(b)
	f.owns(b, bs[0])
	f.owns(c, as[0], cs[0])
}

func onlyWhatMoved(t *testing.T, f *family) {
	a, as := f.customer("", 2)
	b, bs := f.customer("", 1)
	f.merge(a, b)
	later := f.link(b)
	if err := f.Unlink(t.Context(), f.tenant, b, as[0], identity.System); err != nil {
		t.Fatal(err)
	}
	f.undo(a)
	f.owns(a, as[1])
	f.owns(b, bs[0], later)
}

func reclaimed(t *testing.T, f *family) {
	a, as := f.customer("a@example.com", 1)
	b, bs := f.customer("b@example.com", 0)
	f.merge(a, b)
	other, _ := f.customer("A@example.com", 0)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrReclaimed) {
		t.Errorf("undone: %v; want ErrReclaimed", err)
	}
	f.owns(b, append(bs, as...)...)
	free := ""
	if _, err := f.EditCustomer(t.Context(), f.tenant, other, identity.CustomerEdit{Email: &free}, identity.System); err != nil {
		t.Fatal(err)
	}
	f.undo(a)
	f.owns(a, as...)
}

func thirtyDays(t *testing.T, f *family) {
	a, as := f.customer("a@example.com", 1)
	b, _ := f.customer("", 0)
	f.merge(a, b)
	sweep := func() {
		t.Helper()
		if _, err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, f.Store, `update customer_merges set merged_at = `+f.d.in(-29*24*60*60)+` where customer_id = $1`, a)
	sweep()
	f.undo(a)
	f.merge(a, b)
	mustExec(t, f.Store, `update customer_merges set merged_at = `+f.d.in(-30*24*60*60-10)+` where customer_id = $1`, a)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone after 30 days: %v", err)
	}
	sweep()
	for _, table := range []string{"merged_customers", "merged_identities"} {
		if n := queryText(t, f.Store, `select cast(count(*) as text) from `+table+` where tenant_id = $1`, f.tenant); n != "0" {
			t.Errorf("%s rows left in %s", n, table)
		}
	}
	if into, err := f.Survivor(t.Context(), f.tenant, a); into != b || err != nil {
		t.Errorf("survivor %s, %v; want it known for good", into, err)
	}
	f.owns(b, as...)
}

func notTheirs(t *testing.T, f *family) {
	a, as := f.customer("", 1)
	b, _ := f.customer("", 0)
	stranger := newFamily(t, f.Store)
	theirs, _ := stranger.customer("", 1)
	for _, c := range []struct{ tenant, id, into string }{
		{f.tenant, a, theirs}, {f.tenant, theirs, a}, {stranger.tenant, a, b}, {f.tenant, a, newID()}, {f.tenant, newID(), a}, {f.tenant, a, a}, {f.tenant, "x", a},
	} {
		if _, err := f.MergeCustomer(t.Context(), c.tenant, c.id, c.into, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%+v: %v; want ErrNotFound", c, err)
		}
	}
	f.owns(a, as...)
	f.merge(a, b)
	if _, err := f.UndoMerge(t.Context(), stranger.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone by another tenant: %v", err)
	}
	if _, err := f.Survivor(t.Context(), stranger.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("told to another tenant: %v", err)
	}
}

// mergesAtOnce merges three customers in a circle, from many sides: whatever happens,
// every identity has an owner, and undoing what happened brings everything back.
func mergesAtOnce(t *testing.T, f *family) {
	ids, owned := [3]string{}, [3][]string{}
	for n := range ids {
		ids[n], owned[n] = f.customer("", 2)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	merged := 0
	for n := range 24 {
		from, into := ids[n%3], ids[(n+1+n/3%2)%3]
		wg.Go(func() {
			_, err := f.MergeCustomer(t.Context(), f.tenant, from, into, true, identity.System)
			if err != nil && !errors.Is(err, identity.ErrNotFound) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				merged++
			}
		})
	}
	wg.Wait()
	if merged != 2 {
		t.Errorf("%d merges of three customers; want 2", merged)
	}
	for n := 0; n < 6; n++ {
		_, err := f.UndoMerge(t.Context(), f.tenant, ids[n%3], true, identity.System)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Error(err)
		}
	}
	for n := range ids {
		f.owns(ids[n], owned[n]...)
	}
}

// rightsMove: what is verified, or an owner, is given to another customer only by who may
// make it so by hand. Otherwise the right to merge would be the right to grant.
func rightsMove(t *testing.T, f *family) {
	for _, set := range []string{`verified_at = now()`, `role_override = 'owner'`} {
		a, as := f.customer("", 2)
		b, bs := f.customer("", 1)
		set = strings.ReplaceAll(set, "now()", f.d.now)
		mustExec(t, f.Store, `update identities set `+set+` where id = $1`, as[1])
		if _, err := f.MergeCustomer(t.Context(), f.tenant, a, b, false, identity.System); !errors.Is(err, identity.ErrNeedsGrant) {
			t.Errorf("%s: %v; want ErrNeedsGrant", set, err)
		}
		f.owns(a, as...)
		if m := f.merge(a, b); m.Identities != 2 {
			t.Errorf("%+v", m)
		}
		f.owns(b, append(bs, as...)...)
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, false, identity.System); !errors.Is(err, identity.ErrNeedsGrant) {
			t.Errorf("back, %s: %v; want ErrNeedsGrant", set, err)
		}
		f.owns(b, append(bs, as...)...)
		f.undo(a)
		f.owns(a, as...)
	}
	a, _ := f.customer("", 2)
	b, bs := f.customer("", 1)
	mustExec(t, f.Store, `update identities set verified_at = `+f.d.now+` where id = $1`, bs[0])
	if _, err := f.MergeCustomer(t.Context(), f.tenant, a, b, false, identity.System); err != nil {
		t.Errorf("nothing verified moves: %v", err)
	}
}

// codesEnd: a code was read aloud to one customer, and must not make its account
// another's, in neither direction.
func codesEnd(t *testing.T, f *family) {
	a, as := f.customer("", 1)
	b, bs := f.customer("", 1)
	fence := func(id string) claim.Fence {
		t.Helper()
		st, err := f.State(t.Context(), claim.Attempt{TenantID: f.tenant, InstanceID: f.instance, IdentityID: id, MessageID: newID(), ReceivedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return st.Fence
	}
	issue := func(customer, id string) {
		t.Helper()
		if _, _, err := f.Issue(t.Context(), f.tenant, customer, id, identity.System); err != nil {
			t.Fatal(err)
		}
		if got := fence(id); got != claim.Live {
			t.Fatalf("a new code is %s", got)
		}
	}
	issue(a, as[0])
	issue(b, bs[0])
	f.merge(a, b)
	if got := fence(as[0]); got != claim.Revoked {
		t.Errorf("the code of who was merged is %s", got)
	}
	if got := fence(bs[0]); got != claim.Live {
		t.Errorf("the code of who stayed is %s", got)
	}
	issue(b, as[0])
	f.undo(a)
	if got := fence(as[0]); got != claim.Revoked {
		t.Errorf("the code of who came back is %s", got)
	}
	if n := queryText(t, f.Store, `select cast(count(*) as text) from audit_events where tenant_id = $1 and kind = 'claim.revoked' and identity_id = $2`, f.tenant, as[0]); n != "2" {
		t.Errorf("%s codes are said to be revoked; want 2", n)
	}
}

// mergeAndLink links to a customer while it is merged: the identity is the survivor's,
// or the link is refused.
func mergeAndLink(t *testing.T, f *family) {
	for round := range 8 {
		a, _ := f.customer("", 1)
		b, _ := f.customer("", 1)
		var wg sync.WaitGroup
		var linked int
		var mu sync.Mutex
		for n := range 4 {
			wg.Go(func() {
				_, err := f.Link(t.Context(), identity.Identity{TenantID: f.tenant, CustomerID: a, Channel: "sms", ExternalID: fmt.Sprintf("+6140000%d%d", round, n)}, identity.System)
				if err != nil && !errors.Is(err, identity.ErrNotFound) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					linked++
				}
			})
		}
		wg.Go(func() { f.merge(a, b) })
		wg.Wait()
		is, err := f.CustomerIdentities(t.Context(), f.tenant, b, "")
		if err != nil || len(is) != 2+linked {
			t.Errorf("the survivor has %d identities, %v; want 2 and %d linked meanwhile", len(is), err, linked)
		}
	}
}

func deletedSurvivor(t *testing.T, f *family) {
	a, _ := f.customer("a@example.com", 1)
	b, _ := f.customer("", 1)
	f.merge(a, b)
	if _, err := f.DeleteCustomer(t.Context(), f.tenant, b, identity.System); err != nil {
		t.Fatal(err)
	}
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone: %v", err)
	}
	if _, err := f.Survivor(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("survivor: %v", err)
	}
}

// TestMergedCustomersHaveTheColumnsOfCustomers: rows are copied whole between the two,
// so a column that one of them lacks would be lost or end in another.
func TestMergedCustomersHaveTheColumnsOfCustomers(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		columns := func(table string) string { return strings.Join(columnsOf(t, s, table), " ") }
		if a, b := columns("customers"), columns("merged_customers"); a != b {
			t.Errorf("customers:        %s\nmerged_customers: %s", a, b)
		}
	})
}

// columnsOf gives the columns of a table in their order.
func columnsOf(t *testing.T, s *Store, table string) []string {
	t.Helper()
	query := `select name from pragma_table_info($1) order by cid`
	if s.Engine() == "postgres" {
		query = `select column_name from information_schema.columns where table_schema = 'public' and table_name = $1 order by ordinal_position`
	}
	rs, err := s.db.Query(t.Context(), query, table)
	names, err := all(rs, err, scanString)
	if err != nil || len(names) == 0 {
		t.Fatalf("columns of %s: %v, %v", table, names, err)
	}
	return names
}
