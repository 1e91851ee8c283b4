package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/identity"
)

// Refuse has the messages of an unknown sender dropped from now on, until Admit or
// until a customer is found for them; it gives since when. With an instance, senders
// of other instances are not found. identity.ErrNotFound; identity.ErrTaken for an
// identity that belongs to a customer.
func (s *Store) Refuse(ctx context.Context, tenant, instance, id string, by identity.Actor) (since time.Time, err error) {
	err = s.db.InTx(ctx, func(tx db) error {
		i, was, err := s.sender(ctx, tx, tenant, instance, id)
		if err != nil || !was.IsZero() {
			since = was
			return err
		}
		since = s.now()
		if _, err := tx.Exec(ctx, `update identities set refused_at = $3, updated_at = $3 where tenant_id = $1 and id = $2`, tenant, id, since); err != nil {
			return err
		}
		return record(ctx, tx, about(i, "identity.blocked", by, nil))
	})
	return since, s.identityError("refuse sender", err)
}

// Admit takes a refusal back. identity.ErrNotFound, identity.ErrTaken as Refuse.
func (s *Store) Admit(ctx context.Context, tenant, instance, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx db) error {
		i, was, err := s.sender(ctx, tx, tenant, instance, id)
		if err != nil || was.IsZero() {
			return err
		}
		if _, err := tx.Exec(ctx, `update identities set refused_at = null, updated_at = $3 where tenant_id = $1 and id = $2`, tenant, id, s.now()); err != nil {
			return err
		}
		return record(ctx, tx, about(i, "identity.unblocked", by, nil))
	})
	return s.identityError("admit sender", err)
}

// sender gives an unknown sender, locked, and since when they are refused.
func (s *Store) sender(ctx context.Context, tx db, tenant, instance, id string) (i identity.Identity, refused time.Time, err error) {
	where, args := ``, []any{tenant, id}
	if instance != "" {
		where, args = ` and instance_id = $3`, append(args, instance)
	}
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, refused_at from identities
		where tenant_id = $1 and id = $2`+where+s.d.locked(), args...)
	i, err = one(rs, err, func(sc scan) (identity.Identity, error) {
		return scanIdentity(func(dest ...any) error { return sc(append(dest, utc(&refused))...) })
	})
	if err == nil && i.CustomerID != "" {
		err = identity.ErrTaken
	}
	return i, refused, err
}

// Refused reports whether the sender of an address is refused by an instance: nobody
// owns the address there, and staff blocked it.
func (s *Store) Refused(ctx context.Context, a identity.Address) (bool, error) {
	rs, err := s.db.Query(ctx, `
		select id from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and (instance_id = $4 or instance_id is null)
			and customer_id is null and refused_at is not null
			and not exists (
				select 1 from identities o
				where o.tenant_id = $1 and o.channel = $2 and o.external_id = $3 and (o.instance_id = $4 or o.instance_id is null) and o.customer_id is not null)
		limit 1`, a.TenantID, a.Channel, a.ExternalID, a.InstanceID)
	ids, err := all(rs, err, scanString)
	if err != nil {
		return false, fmt.Errorf("look for refusal: %w", err)
	}
	return len(ids) > 0, nil
}
