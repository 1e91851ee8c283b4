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
	"hydragate/store/sqldb"
)

func (f *tenantFixture) mergeCustomer(id, into string) identity.Merge {
	f.t.Helper()
	m, err := f.MergeCustomer(f.t.Context(), f.tenant, id, into, true, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *tenantFixture) undoMerge(id string) identity.Customer {
	f.t.Helper()
	c, err := f.UndoMerge(f.t.Context(), f.tenant, id, true, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// wantIdentities fails the test unless a customer has just these identities.
func (f *tenantFixture) wantIdentities(customer string, want ...string) {
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

func TestMergeCustomer(t *testing.T) {
	runTenantTests(t, map[string]func(*testing.T, *tenantFixture){
		"ThereAndBack": testMergeAndUndo, "Chain": testMergeChain, "ChainBackToFront": testMergeChainReversed,
		"MergedAgainElsewhere":         testMergeAgain,
		"OnlyWhatMovedAndIsStillThere": testUndoMovedOnly, "EmailTakenMeanwhile": testUndoEmailTaken,
		"ThirtyDays": testUndoExpired, "OfSomebodyElse": testMergeForeign,
		"AtOnce": testConcurrentMerges, "LinkAtOnce": testConcurrentLink, "DeletedSurvivor": testDeletedSurvivor,
		"Rights": testMergeNeedsGrant, "Codes": testMergeRevokesCodes,
	})
}

func testMergeAndUndo(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("a@example.com", 2)
	b, bs := f.createCustomer("b@example.com", 1)
	talk := newConversation(t, f.Store, f.tenant, f.instance, as[0])
	was, _ := f.Customer(t.Context(), f.tenant, a)
	mustExec(t, f.Store, `update customers set fk_id = 'crm-1' where id = $1`, a)
	if m := f.mergeCustomer(a, b); m.IdentityCount != 2 || m.TargetID != b || m.UndoUntil().Sub(m.At) != 30*24*time.Hour {
		t.Errorf("%+v", m)
	}
	if _, err := f.Customer(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("the merged customer: %v", err)
	}
	if into, err := f.MergedInto(t.Context(), f.tenant, a); into != b || err != nil {
		t.Errorf("survivor %s, %v", into, err)
	}
	f.wantIdentities(b, append(bs, as...)...)
	if c, _ := f.Customer(t.Context(), f.tenant, b); c.Email != "b@example.com" {
		t.Errorf("the survivor's e-mail address is %s", c.Email)
	}
	if with := queryText(t, f.Store, `select identity_id from conversations where id = $1`, talk); with != as[0] {
		t.Error("the conversation lost its person")
	}
	if c := f.undoMerge(a); fmt.Sprint(c) != fmt.Sprint(was) {
		t.Errorf("back: %v\nwas:  %v", c, was)
	}
	if fk := queryText(t, f.Store, `select fk_id from customers where id = $1`, a); fk != "crm-1" {
		t.Errorf("a column was lost: %q", fk)
	}
	f.wantIdentities(a, as...)
	f.wantIdentities(b, bs...)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone twice: %v", err)
	}
	if _, err := f.MergedInto(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("still merged: %v", err)
	}
	if n := queryText(t, f.Store, `select cast(count(*) as text) from merged_identities where tenant_id = $1`,
		f.tenant); n != "0" {
		t.Errorf("%s identities still noted as moved", n)
	}
	kinds := map[string]int{}
	for _, e := range auditLog(t, f.Store, f.tenant) {
		kinds[e.Kind]++
	}
	if kinds["customer.merged"] != 1 || kinds["customer.absorbed"] != 1 || kinds["customer.unmerged"] != 1 ||
		kinds["customer.released"] != 1 || kinds["identity.moved"] != 4 {
		t.Errorf("events %v", kinds)
	}
}

func testMergeChain(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("a@example.com", 1)
	b, bs := f.createCustomer("b@example.com", 1)
	c, cs := f.createCustomer("", 1)
	f.mergeCustomer(a, b)
	f.mergeCustomer(b, c)
	f.wantIdentities(c, as[0], bs[0], cs[0])
	if into, err := f.MergedInto(t.Context(), f.tenant, a); into != c || err != nil {
		t.Errorf("survivor %s, %v; want the last of the chain", into, err)
	}
	f.undoMerge(b)
	f.wantIdentities(b, as[0], bs[0])
	f.wantIdentities(c, cs[0])
	f.undoMerge(a)
	f.wantIdentities(a, as[0])
	f.wantIdentities(b, bs[0])
}

func testMergeChainReversed(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("a@example.com", 1)
	b, bs := f.createCustomer("b@example.com", 1)
	c, cs := f.createCustomer("", 1)
	f.mergeCustomer(a, b)
	f.mergeCustomer(b, c)
	f.undoMerge(a)
	f.wantIdentities(a, as[0])
	f.wantIdentities(c, bs[0], cs[0])
	f.undoMerge(b)
	f.wantIdentities(a, as[0])
	f.wantIdentities(b, bs[0])
	f.wantIdentities(c, cs[0])
}

// testMergeAgain: what went back and came again by another way is not the older merge's
// to give.
func testMergeAgain(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("", 1)
	b, bs := f.createCustomer("", 1)
	c, cs := f.createCustomer("", 1)
	f.mergeCustomer(a, b)
	f.mergeCustomer(b, c)
	f.undoMerge(a)
	f.mergeCustomer(a, c)
	f.undoMerge(b)
	f.wantIdentities(b, bs[0])
	f.wantIdentities(c, as[0], cs[0])
}

func testUndoMovedOnly(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("", 2)
	b, bs := f.createCustomer("", 1)
	f.mergeCustomer(a, b)
	later := f.linkIdentity(b)
	if err := f.Unlink(t.Context(), f.tenant, b, as[0], identity.System); err != nil {
		t.Fatal(err)
	}
	f.undoMerge(a)
	f.wantIdentities(a, as[1])
	f.wantIdentities(b, bs[0], later)
}

func testUndoEmailTaken(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("a@example.com", 1)
	b, bs := f.createCustomer("b@example.com", 0)
	f.mergeCustomer(a, b)
	other, _ := f.createCustomer("A@example.com", 0)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err,
		identity.ErrIdentifierReused) {
		t.Errorf("undone: %v; want ErrReclaimed", err)
	}
	f.wantIdentities(b, append(bs, as...)...)
	free := ""
	if _, err := f.EditCustomer(t.Context(), f.tenant, other, identity.CustomerEdit{Email: &free},
		identity.System); err != nil {
		t.Fatal(err)
	}
	f.undoMerge(a)
	f.wantIdentities(a, as...)
}

func testUndoExpired(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("a@example.com", 1)
	b, _ := f.createCustomer("", 0)
	f.mergeCustomer(a, b)
	sweep := func() {
		t.Helper()
		if _, err := f.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, f.Store,
		`update customer_merges set merged_at = `+f.dialect.NowPlus(-29*24*60*60)+` where customer_id = $1`, a)
	sweep()
	f.undoMerge(a)
	f.mergeCustomer(a, b)
	mustExec(t, f.Store,
		`update customer_merges set merged_at = `+f.dialect.NowPlus(-30*24*60*60-10)+` where customer_id = $1`, a)
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone after 30 days: %v", err)
	}
	sweep()
	for _, table := range []string{"merged_customers", "merged_identities"} {
		if n := queryText(t, f.Store, `select cast(count(*) as text) from `+table+` where tenant_id = $1`,
			f.tenant); n != "0" {
			t.Errorf("%s rows left in %s", n, table)
		}
	}
	if into, err := f.MergedInto(t.Context(), f.tenant, a); into != b || err != nil {
		t.Errorf("survivor %s, %v; want it known for good", into, err)
	}
	f.wantIdentities(b, as...)
}

func testMergeForeign(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("", 1)
	b, _ := f.createCustomer("", 0)
	stranger := newTenantFixture(t, f.Store)
	theirs, _ := stranger.createCustomer("", 1)
	for _, c := range []struct{ tenant, id, into string }{
		{f.tenant, a, theirs}, {f.tenant, theirs, a}, {stranger.tenant, a, b}, {f.tenant, a, newID()},
		{f.tenant, newID(), a}, {f.tenant, a, a}, {f.tenant, "x", a},
	} {
		if _, err := f.MergeCustomer(t.Context(), c.tenant, c.id, c.into, true, identity.System); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("%+v: %v; want ErrNotFound", c, err)
		}
	}
	f.wantIdentities(a, as...)
	f.mergeCustomer(a, b)
	if _, err := f.UndoMerge(t.Context(), stranger.tenant, a, true, identity.System); !errors.Is(err,
		identity.ErrNotFound) {
		t.Errorf("undone by another tenant: %v", err)
	}
	if _, err := f.MergedInto(t.Context(), stranger.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("told to another tenant: %v", err)
	}
}

// testConcurrentMerges merges three customers in a circle, from many sides: whatever happens,
// every identity has an owner, and undoing what happened brings everything back.
func testConcurrentMerges(t *testing.T, f *tenantFixture) {
	ids, owned := [3]string{}, [3][]string{}
	for n := range ids {
		ids[n], owned[n] = f.createCustomer("", 2)
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
		f.wantIdentities(ids[n], owned[n]...)
	}
}

// testMergeNeedsGrant: what is verified, or an owner, is given to another customer only by who may
// make it so by hand. Otherwise the right to merge would be the right to grant.
func testMergeNeedsGrant(t *testing.T, f *tenantFixture) {
	for _, set := range []string{`verified_at = now()`, `role_override = 'owner'`} {
		a, as := f.createCustomer("", 2)
		b, bs := f.createCustomer("", 1)
		set = strings.ReplaceAll(set, "now()", f.dialect.Now)
		mustExec(t, f.Store, `update identities set `+set+` where id = $1`, as[1])
		if _, err := f.MergeCustomer(t.Context(), f.tenant, a, b, false, identity.System); !errors.Is(err,
			identity.ErrGrantRequired) {
			t.Errorf("%s: %v; want ErrNeedsGrant", set, err)
		}
		f.wantIdentities(a, as...)
		if m := f.mergeCustomer(a, b); m.IdentityCount != 2 {
			t.Errorf("%+v", m)
		}
		f.wantIdentities(b, append(bs, as...)...)
		if _, err := f.UndoMerge(t.Context(), f.tenant, a, false, identity.System); !errors.Is(err,
			identity.ErrGrantRequired) {
			t.Errorf("back, %s: %v; want ErrNeedsGrant", set, err)
		}
		f.wantIdentities(b, append(bs, as...)...)
		f.undoMerge(a)
		f.wantIdentities(a, as...)
	}
	a, _ := f.createCustomer("", 2)
	b, bs := f.createCustomer("", 1)
	mustExec(t, f.Store, `update identities set verified_at = `+f.dialect.Now+` where id = $1`, bs[0])
	if _, err := f.MergeCustomer(t.Context(), f.tenant, a, b, false, identity.System); err != nil {
		t.Errorf("nothing verified moves: %v", err)
	}
}

// testMergeRevokesCodes: a code was read aloud to one customer, and must not make its account
// another's, in neither direction.
func testMergeRevokesCodes(t *testing.T, f *tenantFixture) {
	a, as := f.createCustomer("", 1)
	b, bs := f.createCustomer("", 1)
	fence := func(id string) claim.Status {
		t.Helper()
		st, err := f.CodeState(t.Context(), claim.Attempt{TenantID: f.tenant, InstanceID: f.instance, IdentityID: id,
			MessageID: newID(), ReceivedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return st.Status
	}
	issue := func(customer, id string) {
		t.Helper()
		if _, _, err := f.IssueCode(t.Context(), f.tenant, customer, id, identity.System); err != nil {
			t.Fatal(err)
		}
		if got := fence(id); got != claim.Live {
			t.Fatalf("a new code is %s", got)
		}
	}
	issue(a, as[0])
	issue(b, bs[0])
	f.mergeCustomer(a, b)
	if got := fence(as[0]); got != claim.Revoked {
		t.Errorf("the code of who was merged is %s", got)
	}
	if got := fence(bs[0]); got != claim.Live {
		t.Errorf("the code of who stayed is %s", got)
	}
	issue(b, as[0])
	f.undoMerge(a)
	if got := fence(as[0]); got != claim.Revoked {
		t.Errorf("the code of who came back is %s", got)
	}
	if n := queryText(t, f.Store,
		`select cast(count(*) as text) from audit_events where tenant_id = $1 and kind = 'claim.revoked'
			and identity_id = $2`, f.tenant, as[0]); n != "2" {
		t.Errorf("%s codes are said to be revoked; want 2", n)
	}
}

// testConcurrentLink links to a customer while it is merged: the identity is the survivor's,
// or the link is refused.
func testConcurrentLink(t *testing.T, f *tenantFixture) {
	for round := range 8 {
		a, _ := f.createCustomer("", 1)
		b, _ := f.createCustomer("", 1)
		var wg sync.WaitGroup
		var linked int
		var mu sync.Mutex
		for n := range 4 {
			wg.Go(func() {
				_, err := f.Link(t.Context(), identity.Identity{TenantID: f.tenant, CustomerID: a, Channel: "sms",
					ExternalID: fmt.Sprintf("+6140000%d%d", round, n)}, identity.System)
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
		wg.Go(func() { f.mergeCustomer(a, b) })
		wg.Wait()
		is, err := f.CustomerIdentities(t.Context(), f.tenant, b, "")
		if err != nil || len(is) != 2+linked {
			t.Errorf("the survivor has %d identities, %v; want 2 and %d linked meanwhile", len(is), err, linked)
		}
	}
}

func testDeletedSurvivor(t *testing.T, f *tenantFixture) {
	a, _ := f.createCustomer("a@example.com", 1)
	b, _ := f.createCustomer("", 1)
	f.mergeCustomer(a, b)
	if _, err := f.DeleteCustomer(t.Context(), f.tenant, b, identity.System); err != nil {
		t.Fatal(err)
	}
	if _, err := f.UndoMerge(t.Context(), f.tenant, a, true, identity.System); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("undone: %v", err)
	}
	if _, err := f.MergedInto(t.Context(), f.tenant, a); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("survivor: %v", err)
	}
}

// TestSchema_MergedCustomersColumns: rows are copied whole between the two,
// so a column that one of them lacks would be lost or end in another.
func TestSchema_MergedCustomersColumns(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		columns := func(table string) string { return strings.Join(tableColumns(t, s, table), " ") }
		if a, b := columns("customers"), columns("merged_customers"); a != b {
			t.Errorf("customers:        %s\nmerged_customers: %s", a, b)
		}
	})
}

// tableColumns gives the columns of a table in their order.
func tableColumns(t *testing.T, s *Store, table string) []string {
	t.Helper()
	query := `select name from pragma_table_info($1) order by cid`
	if s.Engine() == "postgres" {
		query = `select column_name from information_schema.columns where table_schema = 'public' and table_name = $1
			order by ordinal_position`
	}
	rs, err := s.db.Query(t.Context(), query, table)
	names, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil || len(names) == 0 {
		t.Fatalf("columns of %s: %v, %v", table, names, err)
	}
	return names
}
