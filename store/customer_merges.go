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

// MergeCustomer merges the customer CustomerID into the customer TargetID: its identities and their
// conversations move to TargetID, which keeps its own fields. The row of CustomerID is archived so
// that UndoMerge can restore it. Its invites and live claim codes are revoked, because they were
// issued for that customer. Everything happens in one transaction.
//
// It returns identity.ErrGrantRequired if MayGrant is false and a moved identity is verified or
// has a role override, and identity.ErrNotFound if one of the customers does not exist.
func (s *Store) MergeCustomer(
	ctx context.Context, req identity.MergeRequest, by identity.Actor,
) (m identity.Merge, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if err := s.lockCustomers(ctx, tx, req.TenantID, req.CustomerID, req.TargetID); err != nil {
			return err
		}
		m = identity.Merge{CustomerID: req.CustomerID, TargetID: req.TargetID, At: s.now()}
		if err := s.revokeInvites(ctx, tx, by, "customer_merged", `tenant_id = $1 and customer_id = $2`, req.TenantID,
			req.CustomerID); err != nil {
			return err
		}
		if err := s.revokeCodes(ctx, tx, by, "customer_merged", `tenant_id = $1 and customer_id = $2`, req.TenantID,
			req.CustomerID); err != nil {
			return err
		}
		moved, err := s.archiveCustomer(ctx, tx, req.TenantID, m)
		if err != nil {
			return err
		}
		if !req.MayGrant && slices.ContainsFunc(moved, hasRights) {
			return identity.ErrGrantRequired
		}
		m.IdentityCount = len(moved)
		return recordEvents(ctx, tx, append([]identity.Event{
			{
				TenantID: req.TenantID, Kind: "customer.merged", Actor: by, CustomerID: req.CustomerID,
				Detail: map[string]string{"into": req.TargetID, "identities": fmt.Sprint(len(moved))},
			},
			{
				TenantID: req.TenantID, Kind: "customer.absorbed", Actor: by, CustomerID: req.TargetID,
				Detail: map[string]string{"from": req.CustomerID, "identities": fmt.Sprint(len(moved))},
			},
		}, movedEvents(moved, req.CustomerID, by)...)...)
	})
	return m, s.customerError("merge customers", err)
}

// hasRights reports whether an identity has rights that otherwise require a grant or a claim.
func hasRights(i identity.Identity) bool { return i.IsVerified() || i.RoleOverride != "" }

// lockCustomers locks two customers until the transaction ends, so that they neither change nor
// get identities. It returns identity.ErrNotFound unless both exist. Customers are always locked
// in order of ID, so that two merges do not deadlock.
func (s *Store) lockCustomers(ctx context.Context, tx sqldb.DB, tenant, a, b string) error {
	rs, err := tx.Query(ctx,
		`select id from customers where tenant_id = $1 and id in ($2, $3) order by id`+s.dialect.ForUpdate(), tenant, a, b)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err == nil && len(ids) < 2 {
		err = identity.ErrNotFound
	}
	return err
}

// archiveCustomer archives a customer and moves its identities to the target of the merge. It
// returns the moved identities.
func (s *Store) archiveCustomer(
	ctx context.Context, tx sqldb.DB, tenant string, m identity.Merge,
) (moved []identity.Identity, err error) {
	err = tx.Batch(ctx, []sqldb.Statement{
		{
			Query: `insert into customer_merges (customer_id, tenant_id, into_id, merged_at) values ($1, $2, $3, $4)`,
			Args:  []any{m.CustomerID, tenant, m.TargetID, m.At},
		},
		{
			Query: `insert into merged_customers select * from customers where tenant_id = $1 and id = $2`,
			Args:  []any{tenant, m.CustomerID},
		},
		{
			Query: `
			insert into merged_identities (tenant_id, customer_id, identity_id)
			select tenant_id, customer_id, id from identities where tenant_id = $1 and customer_id = $2`,
			Args: []any{tenant, m.CustomerID},
		},
		{
			Query: `
			update identities set customer_id = $3, updated_at = $4
			where tenant_id = $1 and customer_id = $2
			returning ` + identityColumns, Args: []any{tenant, m.CustomerID, m.TargetID, m.At},
			Read: sqldb.ScanInto(&moved, scanIdentity),
		},
		{Query: `delete from customers where tenant_id = $1 and id = $2`, Args: []any{tenant, m.CustomerID}},
	})
	return moved, err
}

// movedEvents returns the events for identities that moved from a customer to another.
func movedEvents(identities []identity.Identity, from string, by identity.Actor) []identity.Event {
	var events []identity.Event
	for _, i := range identities {
		events = append(events, identityEvent(i, "identity.moved", by, map[string]string{"from": from}))
	}
	return events
}

// UndoMerge restores a merged customer and returns it. Identities that were moved by the merge
// return to it if they still belong to the customer it was merged into, or to the customer which
// that one was merged into since. Live claim codes of these identities are revoked. Everything
// happens in one transaction.
//
// It returns identity.ErrNotFound if there is no such merge or it is too old,
// identity.ErrIdentifierReused if another customer has taken the e-mail address or another unique
// field of the customer, and identity.ErrGrantRequired as MergeCustomer does.
func (s *Store) UndoMerge(
	ctx context.Context, tenant, id string, mayGrant bool, by identity.Actor,
) (c identity.Customer, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			select into_id from customer_merges
			where tenant_id = $1 and customer_id = $2
				and merged_at > `+s.dialect.NowPlus(-int(identity.MergeUndoWindow/time.Second))+s.dialect.ForUpdate(), tenant, id)
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
		if err := s.revokeCodes(ctx, tx, by, "customer_unmerged",
			`tenant_id = $1 and customer_id = $2 and id in (select identity_id from merged_identities where tenant_id = $1
				and customer_id = $3)`, tenant, survivor, id); err != nil {
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
			{
				TenantID: tenant, Kind: "customer.unmerged", Actor: by, CustomerID: id,
				Detail: map[string]string{"from": survivor, "identities": fmt.Sprint(len(moved))},
			},
			{
				TenantID: tenant, Kind: "customer.released", Actor: by, CustomerID: survivor,
				Detail: map[string]string{"to": id, "identities": fmt.Sprint(len(moved))},
			},
		}, movedEvents(moved, survivor, by)...)...)
	})
	if errors.Is(err, identity.ErrIdentifierReused) {
		return identity.Customer{}, err
	}
	return c, s.customerError("undo merge", err)
}

// restoreCustomer copies an archived customer back to the customers.
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

// restoreIdentities returns to id the identities that were moved from it and belong to survivor.
// They are removed from the records of the merges in tombstones, so that undoing one of those does
// not move them again.
func (s *Store) restoreIdentities(
	ctx context.Context, tx sqldb.DB, tenant, id, survivor string, tombstones []string,
) (moved []identity.Identity, err error) {
	stmts := []sqldb.Statement{{
		Query: `
		update identities set customer_id = $2, updated_at = $4
		where tenant_id = $1 and customer_id = $3 and id in (select identity_id from merged_identities where tenant_id = $1
			and customer_id = $2)
		returning ` + identityColumns, Args: []any{tenant, id, survivor, s.now()},
		Read: sqldb.ScanInto(&moved, scanIdentity),
	}}
	for _, t := range tombstones {
		stmts = append(stmts, sqldb.Statement{Query: `
			delete from merged_identities
			where tenant_id = $1 and customer_id = $2 and identity_id in (select id from identities where tenant_id = $1
				and customer_id = $3)`, Args: []any{tenant, t, id}})
	}
	stmts = append(stmts,
		sqldb.Statement{Query: `delete from merged_customers where tenant_id = $1 and id = $2`, Args: []any{tenant, id}},
		sqldb.Statement{
			Query: `delete from customer_merges where tenant_id = $1 and customer_id = $2`,
			Args:  []any{tenant, id},
		})
	return moved, tx.Batch(ctx, stmts)
}

// MergedInto returns the ID of the existing customer into which a customer was merged, directly or
// through further merges. It returns identity.ErrNotFound if the customer was never merged or the
// last customer of the chain was deleted.
func (s *Store) MergedInto(ctx context.Context, tenant, id string) (string, error) {
	rs, err := s.db.Query(ctx, `select into_id from customer_merges where tenant_id = $1 and customer_id = $2`, tenant, id)
	into, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
	if err != nil {
		return "", s.customerError("look up merge", err)
	}
	for {
		if err := s.checkCustomer(ctx, tenant, into); !errors.Is(err, identity.ErrNotFound) {
			return into, err
		}
		rs, err := s.db.Query(ctx, `select into_id from customer_merges where tenant_id = $1 and customer_id = $2`, tenant,
			into)
		if into, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
			return "", s.customerError("look up merge", err)
		}
	}
}

// lockSurvivor follows the merges from id to an existing customer and locks it. chain lists the
// merged customers on the way. The chain has no cycles: a customer is merged while it exists, and
// no longer exists afterwards.
func (s *Store) lockSurvivor(
	ctx context.Context, tx sqldb.DB, tenant, id string,
) (chain []string, survivor string, err error) {
	for {
		rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant,
			id)
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
