package store

import (
	"context"
	"fmt"

	"hydragate/claim"
	"hydragate/identity"
)

// DeleteCustomer removes a customer with its identities, their live codes, its invites,
// and what would undo merges into it. Conversations stay, with nobody. The audit log keeps whose
// the identities were. It gives whose proofs are void now; identity.ErrNotFound.
func (s *Store) DeleteCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Subject, err error) {
	err = s.again(ctx, func(tx db) error {
		rs, err := tx.Query(ctx, `select id from customers where tenant_id = $1 and id = $2`+s.d.locked(), tenant, id)
		if _, err = one(rs, err, scanString); err != nil {
			return err
		}
		if err := s.endInvites(ctx, tx, by, "customer_deleted", `tenant_id = $1 and customer_id = $2`, tenant, id); err != nil {
			return err
		}
		gone, err := s.heldIdentities(ctx, tx, `tenant_id = $1 and customer_id = $2`, tenant, id)
		if err != nil {
			return err
		}
		void = subjects(gone)
		absorbed, err := absorbedBy(ctx, tx, tenant, id)
		if err != nil {
			return err
		}
		stmts := []stmt{
			{query: `
				update conversations set identity_id = null
				where tenant_id = $1 and identity_id in (select id from identities where tenant_id = $1 and customer_id = $2)`, args: []any{tenant, id}},
			{query: `delete from identities where tenant_id = $1 and customer_id = $2`, args: []any{tenant, id}},
			{query: `delete from customers where tenant_id = $1 and id = $2`, args: []any{tenant, id}},
		}
		for _, a := range absorbed {
			stmts = append(stmts,
				stmt{query: `delete from merged_customers where tenant_id = $1 and id = $2`, args: []any{tenant, a}},
				stmt{query: `delete from merged_identities where tenant_id = $1 and customer_id = $2`, args: []any{tenant, a}})
		}
		events := []identity.Event{{TenantID: tenant, Kind: "customer.deleted", Actor: by, CustomerID: id, Detail: map[string]string{"identities": fmt.Sprint(len(gone))}}}
		for _, g := range gone {
			events = append(events, unlinked(g.Identity, by))
		}
		if err := tx.Batch(ctx, stmts); err != nil {
			return err
		}
		return record(ctx, tx, events...)
	})
	return void, s.customerError("delete customer", err)
}

// A held is an identity that nobody else can change until the transaction ends, and
// the generation of its last code.
type held struct {
	identity.Identity
	gen int64
}

// heldIdentities gives identities, locked in one order everywhere.
func (s *Store) heldIdentities(ctx context.Context, tx db, where string, args ...any) ([]held, error) {
	rs, err := tx.Query(ctx, `select `+identityColumns+`, claim_gen from identities where `+where+` order by id`+s.d.locked(), args...)
	return all(rs, err, scanHeld)
}

func scanHeld(sc scan) (h held, err error) {
	h.Identity, err = scanIdentity(func(dest ...any) error { return sc(append(dest, &h.gen)...) })
	return h, err
}

// subjects gives whose codes went with identities.
func subjects(hs []held) []claim.Subject {
	var subs []claim.Subject
	for _, h := range hs {
		if h.gen > 0 {
			subs = append(subs, claim.Subject{TenantID: h.TenantID, InstanceID: h.InstanceID, Channel: h.Channel, ExternalID: h.ExternalID, IdentityID: h.ID, Gen: h.gen})
		}
	}
	return subs
}

// absorbedBy gives everybody who was merged into a customer, directly or not.
func absorbedBy(ctx context.Context, tx db, tenant, id string) ([]string, error) {
	rs, err := tx.Query(ctx, `
		with recursive absorbed (id) as (
			select customer_id from customer_merges where tenant_id = $1 and into_id = $2
			union
			select m.customer_id from customer_merges m join absorbed a on m.into_id = a.id where m.tenant_id = $1)
		select id from absorbed order by id`, tenant, id)
	return all(rs, err, scanString)
}
