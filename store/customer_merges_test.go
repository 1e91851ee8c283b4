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

func (f *fixture) mergeCustomer(id, into string) identity.Merge {
	f.t.Helper()
	m, err := f.MergeCustomer(f.t.Context(), identity.MergeRequest{
		TenantID: f.tenant, CustomerID: id, TargetID: into,
		MayGrant: true,
	}, identity.System)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// wantIdentities checks that a customer has exactly the given identities.
func (f *fixture) wantIdentities(customer string, want ...string) {
	f.t.Helper()
	is, err := f.CustomerIdentities(f.t.Context(), identity.Query{TenantID: f.tenant, CustomerID: customer})
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
		f.t.Errorf("identities = %v, want %v", got, want)
	}
}

func TestMergeCustomer_Chain(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("a@example.com", 1)
		b, bIDs := f.createCustomerWith("b@example.com", 1)
		c, cIDs := f.createCustomerWith("", 1)
		f.mergeCustomer(a, b)
		f.mergeCustomer(b, c)
		f.wantIdentities(c, aIDs[0], bIDs[0], cIDs[0])
		if into, err := f.MergedInto(t.Context(), f.tenant, a); into != c || err != nil {
			t.Errorf("MergedInto() = %s, %v, want the end of the chain", into, err)
		}
		f.undoMerge(b)
		f.wantIdentities(b, aIDs[0], bIDs[0])
		f.wantIdentities(c, cIDs[0])
		f.undoMerge(a)
		f.wantIdentities(a, aIDs[0])
		f.wantIdentities(b, bIDs[0])
	})
}

func TestMergeCustomer_OtherTenant(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("", 1)
		b := f.createCustomer()
		other := newFixture(t, f.Store)
		theirs, _ := other.createCustomerWith("", 1)
		for _, c := range []struct{ tenant, id, into string }{
			{f.tenant, a, theirs},
			{f.tenant, theirs, a},
			{other.tenant, a, b},
			{f.tenant, a, newID()},
			{f.tenant, newID(), a},
			{f.tenant, a, a},
			{f.tenant, "x", a},
		} {
			if _, err := f.MergeCustomer(t.Context(), identity.MergeRequest{
				TenantID: c.tenant, CustomerID: c.id,
				TargetID: c.into, MayGrant: true,
			}, identity.System); !errors.Is(err,
				identity.ErrNotFound) {
				t.Errorf("MergeCustomer(%+v) = %v, want ErrNotFound", c, err)
			}
		}
		f.wantIdentities(a, aIDs...)
		f.mergeCustomer(a, b)
		if _, err := f.UndoMerge(t.Context(), other.tenant, a, true, identity.System); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("UndoMerge() by another tenant = %v, want ErrNotFound", err)
		}
		if _, err := f.MergedInto(t.Context(), other.tenant, a); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("MergedInto() for another tenant = %v, want ErrNotFound", err)
		}
	})
}

// TestMergeCustomer_Concurrent merges three customers in a circle concurrently. Two merges must succeed, and
// undoing them must restore all identities.
func TestMergeCustomer_Concurrent(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		ids, owned := [3]string{}, [3][]string{}
		for n := range ids {
			ids[n], owned[n] = f.createCustomerWith("", 2)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		merged := 0
		for n := range 24 {
			from, into := ids[n%3], ids[(n+1+n/3%2)%3]
			wg.Go(func() {
				_, err := f.MergeCustomer(t.Context(), identity.MergeRequest{
					TenantID: f.tenant, CustomerID: from, TargetID: into,
					MayGrant: true,
				}, identity.System)
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
			t.Errorf("%d merges of three customers succeeded, want 2", merged)
		}
		for n := range 6 {
			_, err := f.UndoMerge(t.Context(), f.tenant, ids[n%3], true, identity.System)
			if err != nil && !errors.Is(err, identity.ErrNotFound) {
				t.Error(err)
			}
		}
		for n := range ids {
			f.wantIdentities(ids[n], owned[n]...)
		}
	})
}

// TestMergeCustomer_GrantRequired tests that verified identities and owners move only with the right to grant.
// Otherwise the right to merge would imply the right to grant.
func TestMergeCustomer_GrantRequired(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for _, set := range []string{`verified_at = now()`, `role_override = 'owner'`} {
			a, aIDs := f.createCustomerWith("", 2)
			b, bIDs := f.createCustomerWith("", 1)
			set = strings.ReplaceAll(set, "now()", f.dialect.Now)
			mustExec(t, f.Store, `update identities set `+set+` where id = $1`, aIDs[1])
			if _, err := f.MergeCustomer(t.Context(), identity.MergeRequest{TenantID: f.tenant, CustomerID: a, TargetID: b},
				identity.System); !errors.Is(err,
				identity.ErrGrantRequired) {
				t.Errorf("MergeCustomer() with %s = %v, want ErrGrantRequired", set, err)
			}
			f.wantIdentities(a, aIDs...)
			if m := f.mergeCustomer(a, b); m.IdentityCount != 2 {
				t.Errorf("MergeCustomer() = %+v, want two identities", m)
			}
			f.wantIdentities(b, append(bIDs, aIDs...)...)
			if _, err := f.UndoMerge(t.Context(), f.tenant, a, false, identity.System); !errors.Is(err,
				identity.ErrGrantRequired) {
				t.Errorf("UndoMerge() with %s = %v, want ErrGrantRequired", set, err)
			}
			f.wantIdentities(b, append(bIDs, aIDs...)...)
			f.undoMerge(a)
			f.wantIdentities(a, aIDs...)
		}
		a, _ := f.createCustomerWith("", 2)
		b, bIDs := f.createCustomerWith("", 1)
		mustExec(t, f.Store, `update identities set verified_at = `+f.dialect.Now+` where id = $1`, bIDs[0])
		if _, err := f.MergeCustomer(t.Context(), identity.MergeRequest{TenantID: f.tenant, CustomerID: a, TargetID: b},
			identity.System); err != nil {
			t.Errorf("MergeCustomer() of unverified identities = %v", err)
		}
	})
}

// TestMergeCustomer_RevokesCodes tests that a code issued for one customer cannot be redeemed after its
// identity moved to another, by a merge or by undoing it.
func TestMergeCustomer_RevokesCodes(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a, aIDs := f.createCustomerWith("", 1)
		b, bIDs := f.createCustomerWith("", 1)
		status := func(id string) claim.Status {
			t.Helper()
			st, err := f.CodeState(t.Context(), claim.Attempt{
				TenantID: f.tenant, InstanceID: f.instance, IdentityID: id,
				MessageID: newID(), ReceivedAt: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
			return st.Status
		}
		issue := func(customer, id string) {
			t.Helper()
			if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
				identity.System); err != nil {
				t.Fatal(err)
			}
			if got := status(id); got != claim.Live {
				t.Fatalf("status of a new code = %s, want live", got)
			}
		}
		issue(a, aIDs[0])
		issue(b, bIDs[0])
		f.mergeCustomer(a, b)
		if got := status(aIDs[0]); got != claim.Revoked {
			t.Errorf("status of the moved code = %s, want revoked", got)
		}
		if got := status(bIDs[0]); got != claim.Live {
			t.Errorf("status of the other code = %s, want live", got)
		}
		issue(b, aIDs[0])
		f.undoMerge(a)
		if got := status(aIDs[0]); got != claim.Revoked {
			t.Errorf("status of the returned code = %s, want revoked", got)
		}
		if n := queryText(t, f.Store,
			`select cast(count(*) as text) from audit_events where tenant_id = $1 and kind = 'claim.revoked'
				and identity_id = $2`, f.tenant, aIDs[0]); n != "2" {
			t.Errorf("%s claim.revoked events, want 2", n)
		}
	})
}

// TestMergeCustomer_ConcurrentLink links identities to a customer while it is merged. Each identity must belong to
// the target, or the link must fail.
func TestMergeCustomer_ConcurrentLink(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for round := range 8 {
			a, _ := f.createCustomerWith("", 1)
			b, _ := f.createCustomerWith("", 1)
			var wg sync.WaitGroup
			var linked int
			var mu sync.Mutex
			for n := range 4 {
				wg.Go(func() {
					_, err := f.Link(t.Context(), identity.Identity{
						TenantID: f.tenant, CustomerID: a, Channel: "sms",
						ExternalID: fmt.Sprintf("+6140000%d%d", round, n),
					}, identity.System)
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
			is, err := f.CustomerIdentities(t.Context(), identity.Query{TenantID: f.tenant, CustomerID: b})
			if err != nil || len(is) != 2+linked {
				t.Errorf("target has %d identities, %v, want 2 and %d linked concurrently", len(is), err, linked)
			}
		}
	})
}

// TestSchema_MergedCustomersColumns tests that both tables have the same columns in the same order,
// because rows are copied between them with select *.
func TestSchema_MergedCustomersColumns(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		columns := func(table string) string { return strings.Join(tableColumns(t, s, table), " ") }
		if a, b := columns("customers"), columns("merged_customers"); a != b {
			t.Errorf("customers:        %s\nmerged_customers: %s", a, b)
		}
	})
}

// tableColumns returns the columns of a table in order.
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
