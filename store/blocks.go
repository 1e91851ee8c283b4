package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// BlockSender blocks an unknown sender: their messages are dropped until UnblockSender is
// called or the identity is linked to a customer. It returns the time since which the sender is
// blocked. If k.InstanceID is not empty, senders of other instances are not found. BlockSender
// returns identity.ErrNotFound if there is no such identity and identity.ErrAlreadyLinked if it
// belongs to a customer.
func (s *Store) BlockSender(ctx context.Context, k identity.SenderKey, by identity.Actor) (since time.Time, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		i, blockedAt, err := s.lockUnknownSender(ctx, tx, k.TenantID, k.InstanceID, k.IdentityID)
		if err != nil || !blockedAt.IsZero() {
			since = blockedAt
			return err
		}
		since = s.now()
		if _, err := tx.Exec(ctx, `update identities set refused_at = $3, updated_at = $3 where tenant_id = $1 and id = $2`,
			k.TenantID, k.IdentityID, since); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identityEvent(i, "identity.blocked", by, nil))
	})
	return since, s.identityError("block sender", err)
}

// UnblockSender unblocks an unknown sender. It does nothing if the sender is not blocked. Its
// errors are those of BlockSender.
func (s *Store) UnblockSender(ctx context.Context, k identity.SenderKey, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		i, blockedAt, err := s.lockUnknownSender(ctx, tx, k.TenantID, k.InstanceID, k.IdentityID)
		if err != nil || blockedAt.IsZero() {
			return err
		}
		if _, err := tx.Exec(ctx,
			`update identities set refused_at = null, updated_at = $3 where tenant_id = $1 and id = $2`, k.TenantID,
			k.IdentityID,
			s.now()); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identityEvent(i, "identity.unblocked", by, nil))
	})
	return s.identityError("unblock sender", err)
}

// lockUnknownSender locks and returns an unknown sender. blockedAt is the time at which it was
// blocked, or zero. The error is identity.ErrAlreadyLinked if the identity belongs to a customer.
func (s *Store) lockUnknownSender(
	ctx context.Context, tx sqldb.DB, tenant, instance, id string,
) (i identity.Identity, blockedAt time.Time, err error) {
	where, args := ``, []any{tenant, id}
	if instance != "" {
		where, args = ` and instance_id = $3`, append(args, instance)
	}
	rs, err := tx.Query(ctx, `
		select `+identityColumns+`, refused_at from identities
		where tenant_id = $1 and id = $2`+where+s.dialect.ForUpdate(), args...)
	i, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (identity.Identity, error) {
		return scanIdentity(func(dest ...any) error { return sc(append(dest, sqldb.Time(&blockedAt))...) })
	})
	if err == nil && i.CustomerID != "" {
		err = identity.ErrAlreadyLinked
	}
	return i, blockedAt, err
}

// IsSenderBlocked reports whether the unknown sender with an address is blocked in an instance. It
// returns false if the address belongs to a customer there.
func (s *Store) IsSenderBlocked(ctx context.Context, a identity.Address) (bool, error) {
	rs, err := s.db.Query(ctx, `
		select id from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and (instance_id = $4 or instance_id is null)
			and customer_id is null and refused_at is not null
			and not exists (
				select 1 from identities o
				where o.tenant_id = $1 and o.channel = $2 and o.external_id = $3 and (o.instance_id = $4 or o.instance_id is null)
					and o.customer_id is not null)
		limit 1`, a.TenantID, a.Channel, a.ExternalID, a.InstanceID)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		return false, fmt.Errorf("look up block: %w", err)
	}
	return len(ids) > 0, nil
}
