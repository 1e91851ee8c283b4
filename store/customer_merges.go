package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// MergeCustomer makes two customers one: the identities of id, and with them their
// conversations, come to into. into keeps its own fields; id is kept as it was, out of
// sight of everything, so that UndoMerge can bring it back. Its invites and claim codes
// end: who was to be one customer does not become another by a merge that may be undone.
// Verified accounts and owners come along only with mayGrant; otherwise
// identity.ErrNeedsGrant. identity.ErrNotFound when either is not a customer of the tenant.
func (s *Store) MergeCustomer(ctx context.Context, tenant, id, into string, mayGrant bool, by identity.Actor) (m identity.Merge, err error) {
	err = s.retryTx(ctx, func(tx sqldb.DB) error {
		if err := s.lockCustomers(ctx, tx, tenant, id, into); err != nil {
			return err
		}
		m = identity.Merge{CustomerID: id, TargetID: into, At: s.now()}
		if err := s.revokeInvites(ctx, tx, by, "customer_merged", `tenant_id = $1 and customer_id = $2`, tenant, id); err != nil {
			return err
		}
		if err := s.revokeCodes(ctx, tx, by, "customer_merged", `tenant_id = $1 and customer_id = $2`, tenant, id); err != nil {
			return err
		}
		moved, err := s.archiveCustomer(ctx, tx, tenant, m)
		if err != nil {
			return err
		}
		if !mayGrant && slices.ContainsFunc(moved, hasRights) {
			return identity.ErrGrantRequired
		}
		m.IdentityCount = len(moved)
		return recordEvents(ctx, tx, append([]identity.Event{
			{TenantID: tenant, Kind: "customer.merged", Actor: by, CustomerID: id, Detail: map[string]string{"into": into, "identities": fmt.Sprint(len(moved))}},
			{TenantID: tenant, Kind: "customer.absorbed", Actor: by, CustomerID: into, Detail: map[string]string{"from": id, "identities": fmt.Sprint(len(moved))}},
		}, movedEvents(moved, id, by)...)...)
	})
	return m, s.customerError("merge customers", err)
}

// hasRights reports whether whoever gets an identity gets what only a grant or a claim
// gives.
func hasRights(i identity.Identity) bool { return i.IsVerified() || i.RoleOverride != "" }

// lockCustomers keeps customers from changing and from getting identities until the
// transaction ends, in one order everywhere so that no two merges wait for each other.
func (s *Store) lockCustomers(ctx context.Context, tx sqldb.DB, tenant, a, b string) error {
	rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id in ($2, $3) order by id`+s.dialect.ForUpdate(), tenant, a, b)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err == nil && len(ids) < 2 {
		err = identity.ErrNotFound
	}
	return err
}

// archiveCustomer puts a customer aside and gives its identities to another.
func (s *Store) archiveCustomer(ctx context.Context, tx sqldb.DB, tenant string, m identity.Merge) (moved []identity.Identity, err error) {
	err = tx.Batch(ctx, []sqldb.Statement{
		{Query: `insert into customer_merges (customer_id, tenant_id, into_id, merged_at) values ($1, $2, $3, $4)`, Args: []any{m.CustomerID, tenant, m.TargetID, m.At}},
		{Query: `insert into merged_customers select * from customers where tenant_id = $1 and id = $2`, Args: []any{tenant, m.CustomerID}},
		{Query: `
			insert into merged_identities (tenant_id, customer_id, identity_id)
			select tenant_id, customer_id, id from identities where tenant_id = $1 and customer_id = $2`, Args: []any{tenant, m.CustomerID}},
		{Query: `
			update identities set customer_id = $3, updated_at = $4
			where tenant_id = $1 and customer_id = $2
			returning ` + identityColumns, Args: []any{tenant, m.CustomerID, m.TargetID, m.At}, Read: sqldb.ScanInto(&moved, scanIdentity)},
		{Query: `delete from customers where tenant_id = $1 and id = $2`, Args: []any{tenant, m.CustomerID}},
	})
	return moved, err
}

// movedEvents tell of identities that came to their customer from another.
func movedEvents(is []identity.Identity, from string, by identity.Actor) []identity.Event {
	var events []identity.Event
	for _, i := range is {
		events = append(events, identityEvent(i, "identity.moved", by, map[string]string{"from": from}))
	}
	return events
}

// UndoMerge brings a merged customer back, with the identities that moved and still
// belong to whom it was merged into: that customer, or who that one was merged into
// since. identity.ErrNotFound when nothing can be undone (any more),
// identity.ErrReclaimed when another customer has its e-mail address by now,
// identity.ErrNeedsGrant as in a merge.
func (s *Store) UndoMerge(ctx context.Context, tenant, id string, mayGrant bool, by identity.Actor) (c identity.Customer, err error) {
	err = s.retryTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			select into_id from customer_merges
			where tenant_id = $1 and customer_id = $2 and merged_at > `+s.dialect.NowPlus(-int(identity.MergeUndoWindow/time.Second))+s.dialect.ForUpdate(), tenant, id)
		into, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
		if err != nil {
			return err
		}
		chain, survivor, err := s.lockSurvivor(ctx, tx, tenant, into)
		if err != nil {
			return err
		}
		if c, err = s.restoreCustomer(ctx, tx, tenant, id); err != nil {
			return err
		}
		if err := s.revokeCodes(ctx, tx, by, "customer_unmerged", `tenant_id = $1 and customer_id = $2 and id in (select identity_id from merged_identities where tenant_id = $1 and customer_id = $3)`, tenant, survivor, id); err != nil {
			return err
		}
		moved, err := s.restoreIdentities(ctx, tx, tenant, id, survivor, append(chain, id))
		if err != nil {
			return err
		}
		if !mayGrant && slices.ContainsFunc(moved, hasRights) {
			return identity.ErrGrantRequired
		}
		return recordEvents(ctx, tx, append([]identity.Event{
			{TenantID: tenant, Kind: "customer.unmerged", Actor: by, CustomerID: id, Detail: map[string]string{"from": survivor, "identities": fmt.Sprint(len(moved))}},
			{TenantID: tenant, Kind: "customer.released", Actor: by, CustomerID: survivor, Detail: map[string]string{"to": id, "identities": fmt.Sprint(len(moved))}},
		}, movedEvents(moved, survivor, by)...)...)
	})
	if errors.Is(err, identity.ErrIdentifierReused) {
		return identity.Customer{}, err
	}
	return c, s.customerError("undo merge", err)
}

// restoreCustomer puts a merged customer back among the customers.
func (s *Store) restoreCustomer(ctx context.Context, tx sqldb.DB, tenant, id string) (identity.Customer, error) {
	rs, err := tx.Query(ctx, `
		insert into customers select * from merged_customers where tenant_id = $1 and id = $2
		returning `+customerColumns, tenant, id)
	c, err := sqldb.ScanOne(rs, err, scanCustomer)
	if s.dialect.IsDuplicate(err) {
		err = identity.ErrIdentifierReused
	}
	return c, err
}

// restoreIdentities gives id what moved from it and belongs to survivor. What went back has
// moved with none of the merges in tombstones, so that undoing those leaves it alone.
func (s *Store) restoreIdentities(ctx context.Context, tx sqldb.DB, tenant, id, survivor string, tombstones []string) (moved []identity.Identity, err error) {
	stmts := []sqldb.Statement{{Query: `
		update identities set customer_id = $2, updated_at = $4
		where tenant_id = $1 and customer_id = $3 and id in (select identity_id from merged_identities where tenant_id = $1 and customer_id = $2)
		returning ` + identityColumns, Args: []any{tenant, id, survivor, s.now()}, Read: sqldb.ScanInto(&moved, scanIdentity)}}
	for _, t := range tombstones {
		stmts = append(stmts, sqldb.Statement{Query: `
			delete from merged_identities
			where tenant_id = $1 and customer_id = $2 and identity_id in (select id from identities where tenant_id = $1 and customer_id = $3)`, Args: []any{tenant, t, id}})
	}
	stmts = append(stmts,
		sqldb.Statement{Query: `delete from merged_customers where tenant_id = $1 and id = $2`, Args: []any{tenant, id}},
		sqldb.Statement{Query: `delete from customer_merges where tenant_id = $1 and customer_id = $2`, Args: []any{tenant, id}})
	return moved, tx.Batch(ctx, stmts)
}

// MergedInto gives the customer that a merged one is now; identity.ErrNotFound for one
// that was never merged, and when the survivor is gone.
func (s *Store) MergedInto(ctx context.Context, tenant, id string) (string, error) {
	rs, err := s.db.Query(ctx, `select into_id from customer_merges where tenant_id = $1 and customer_id = $2`, tenant, id)
	into, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
	if err != nil {
		return "", s.customerError("look for merge", err)
	}
	for {
		if err := s.checkCustomer(ctx, tenant, into); !errors.Is(err, identity.ErrNotFound) {
			return into, err
		}
		rs, err := s.db.Query(ctx, `select into_id from customer_merges where tenant_id = $1 and customer_id = $2`, tenant, into)
		if into, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
			return "", s.customerError("look for merge", err)
		}
	}
}

// lockSurvivor follows merges from id to a customer and locks it. chain are the merged
// customers on the way. A merge never leads back: who is merged was a customer until
// then.
func (s *Store) lockSurvivor(ctx context.Context, tx sqldb.DB, tenant, id string) (chain []string, survivor string, err error) {
	for {
		rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant, id)
		if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); !sqldb.IsNoRows(err) {
			return chain, id, err
		}
		chain = append(chain, id)
		rs, err = tx.Query(ctx, `select into_id from customer_merges where tenant_id = $1 and customer_id = $2`, tenant, id)
		if id, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
			return nil, "", err
		}
	}
}
