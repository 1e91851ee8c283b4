package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/identity"
)

// ownersMost is how many spans of one address are told: the newest.
const ownersMost = 1000

const ownershipColumns = `identity_id, instance_id, channel, external_id, customer_id, since, until, erased_at`

func scanOwnership(sc scan) (o identity.Ownership, err error) {
	err = sc(text(&o.IdentityID), text(&o.InstanceID), &o.Channel, &o.ExternalID, text(&o.CustomerID), utc(&o.Since), utc(&o.Until), utc(&o.ErasedAt))
	return o, err
}

// AddressOf gives the address of an identity, also of one that is gone: the last it
// had when somebody owned it. InstanceID is empty for every instance.
// identity.ErrNotFound when nobody ever heard of it.
func (s *Store) AddressOf(ctx context.Context, tenant, id string) (identity.Address, error) {
	a := identity.Address{TenantID: tenant}
	rs, err := s.db.Query(ctx, `
		select instance_id, channel, external_id from (
			select instance_id, channel, external_id, 0 as n from identities where tenant_id = $1 and id = $2
			union all
			select instance_id, channel, external_id, seq as n from identity_owners where tenant_id = $1 and identity_id = $2) a
		order by (case when n = 0 then 0 else 1 end), n desc limit 1`, tenant, id)
	_, err = one(rs, err, func(sc scan) (struct{}, error) {
		return struct{}{}, sc(text(&a.InstanceID), &a.Channel, &a.ExternalID)
	})
	return a, s.identityError("read address", err)
}

// History tells who owned an address when, oldest first, in every instance: also when
// the identity is gone, and under its pseudonym when the customer was erased.
func (s *Store) History(ctx context.Context, a identity.Address) ([]identity.Ownership, error) {
	args, places := []any{a.TenantID, a.Channel, a.ExternalID, ownersMost}, []string{"$3"}
	pseudonyms, err := s.pseudonymsOf(ctx, a.TenantID, a.Channel, a.ExternalID)
	if err != nil {
		return nil, err
	}
	for _, p := range pseudonyms {
		args = append(args, p)
		places = append(places, fmt.Sprintf("$%d", len(args)))
	}
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from (
			select * from identity_owners
			where tenant_id = $1 and channel = $2 and external_id in (`+strings.Join(places, ", ")+`)
			order by seq desc limit $4) o
		order by seq`, args...)
	os, err := all(rs, err, scanOwnership)
	return os, s.identityError("read history", err)
}

// CustomerHistory tells which addresses a customer owned when, oldest first.
func (s *Store) CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error) {
	rs, err := s.db.Query(ctx, `
		select `+ownershipColumns+` from identity_owners
		where tenant_id = $1 and customer_id = $2 order by seq`, tenant, customer)
	os, err := all(rs, err, scanOwnership)
	return os, s.identityError("read history of customer", err)
}
