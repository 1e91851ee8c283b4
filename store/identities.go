package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

const identityColumns = `id, tenant_id, customer_id, instance_id, channel, external_id, display_name, username,
	role_override, metadata,
	verified_at, opted_out_at, blocked_at, created_at, updated_at, doubt`

func scanIdentity(sc sqldb.ScanFunc) (i identity.Identity, err error) {
	var metadata string
	err = sc(sqldb.Text(&i.ID), sqldb.Text(&i.TenantID), sqldb.Text(&i.CustomerID), sqldb.Text(&i.InstanceID),
		&i.Channel, &i.ExternalID, sqldb.Text(&i.DisplayName), sqldb.Text(&i.Username),
		sqldb.Text(&i.RoleOverride), &metadata, sqldb.Time(&i.VerifiedAt), sqldb.Time(&i.OptedOutAt),
		sqldb.Time(&i.BlockedAt), sqldb.Time(&i.CreatedAt), sqldb.Time(&i.UpdatedAt), sqldb.Text((*string)(&i.ExpiryReason)))
	i.Metadata = json.RawMessage(metadata)
	return i, err
}

// Lookup returns the identity with an address, or an alias of it, and the e-mail address of its customer. An identity
// scoped to the instance takes precedence over one for all instances. Lookup returns
// identity.ErrNotFound if the address belongs to no customer.
func (s *Store) Lookup(ctx context.Context, a identity.Address) (i identity.Identity, email string, err error) {
	rs, err := s.db.Query(ctx, `
		select `+identityColumns+`,
			(select email from customers c where c.tenant_id = identities.tenant_id and c.id = identities.customer_id)
		from identities
		where tenant_id = $1 and channel = $2 and customer_id is not null and external_id = coalesce((
				select a.external_id from aliases a
				where a.tenant_id = $1 and a.channel = $2 and a.alias = $3 and a.disputed_at is null), $3)
			and (instance_id = $4 or instance_id is null)
		order by (case when instance_id is null then 1 else 0 end) limit 1`,
		a.TenantID, a.Channel, a.ExternalID, sqldb.TextOrNull(a.InstanceID))
	i, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (identity.Identity, error) {
		return scanIdentity(func(dest ...any) error { return sc(append(dest, sqldb.Text(&email))...) })
	})
	return i, email, s.identityError("look up sender", err)
}

// Identity returns an identity of a customer. It returns identity.ErrNotFound if there is none.
func (s *Store) Identity(ctx context.Context, k identity.Key) (identity.Identity, error) {
	rs, err := s.db.Query(ctx, `
		select `+identityColumns+` from identities
		where tenant_id = $1 and customer_id = $2 and id = $3`, k.TenantID, k.CustomerID, k.IdentityID)
	i, err := sqldb.ScanOne(rs, err, scanIdentity)
	if err == nil {
		err = s.readAliases(ctx, s.db, &i)
	}
	return i, s.identityError("read identity", err)
}

// CustomerIdentities returns the identities of a customer, oldest first. If q.Channel is not
// empty, identities on other channels are left out. It returns identity.ErrNotFound for an
// unknown customer.
func (s *Store) CustomerIdentities(ctx context.Context, q identity.Query) ([]identity.Identity, error) {
	where, args := ``, []any{q.TenantID, q.CustomerID}
	if q.Channel != "" {
		where, args = ` and channel = $3`, append(args, q.Channel)
	}
	rs, err := s.db.Query(ctx, `
		select `+identityColumns+` from identities
		where tenant_id = $1 and customer_id = $2`+where+`
		order by created_at, id`, args...)
	identities, err := sqldb.ScanAll(rs, err, scanIdentity)
	if err == nil && len(identities) == 0 {
		return nil, s.checkCustomer(ctx, q.TenantID, q.CustomerID)
	}
	if err == nil {
		err = s.readAliases(ctx, s.db, pointers(identities)...)
	}
	return identities, s.identityError("list identities", err)
}

// UnknownSenders returns at most q.Limit identities that belong to no customer in order of ID,
// starting after the ID q.After. If q.InstanceID is not empty, those of other instances are
// left out. Senders whose address has since been linked for all instances are not included.
func (s *Store) UnknownSenders(ctx context.Context, q identity.SenderQuery) ([]identity.Identity, error) {
	where, args := ``, []any{q.TenantID, startAfter(q.After), q.Limit}
	if q.InstanceID != "" {
		where, args = ` and instance_id = $4`, append(args, q.InstanceID)
	}
	rs, err := s.db.Query(ctx, `
		select `+identityColumns+` from identities
		where tenant_id = $1 and customer_id is null and id > $2`+where+` and not exists (
			select 1 from identities o
			where o.tenant_id = identities.tenant_id and o.channel = identities.channel
				and o.external_id = identities.external_id
				and o.instance_id is null and o.customer_id is not null)
		order by id limit $3`, args...)
	identities, err := sqldb.ScanAll(rs, err, scanIdentity)
	if err == nil {
		err = s.readAliases(ctx, s.db, pointers(identities)...)
	}
	return identities, s.identityError("list unknown senders", err)
}

// Link stores a new, unverified identity of a customer and returns it. If an unknown sender has
// the address within the scope of i, that row is linked instead and keeps its conversations;
// further rows with the address within the scope are merged into it. Link returns
// identity.ErrAlreadyLinked if the address belongs to a customer, identity.ErrNotFound for an
// unknown customer, and identity.ErrNoInstance for an unknown instance.
func (s *Store) Link(
	ctx context.Context, i identity.Identity, by identity.Actor,
) (linked identity.Identity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) (err error) {
		if linked, err = s.linkTx(ctx, tx, i, by); err == nil {
			err = s.readAliases(ctx, tx, &linked)
		}
		return err
	})
	if err == nil {
		return linked, nil
	}
	if errors.Is(err, identity.ErrAlreadyLinked) || s.dialect.IsForeignKeyViolation(err) {
		err = s.linkError(ctx, i, err)
	}
	return identity.Identity{}, s.identityError("link identity", err)
}

// linkTx implements Link in a transaction. It retries, because an unknown sender may be inserted
// or deleted concurrently; if neither an update nor an insert succeeds, a customer has the
// address.
func (s *Store) linkTx(
	ctx context.Context, tx sqldb.DB, i identity.Identity, by identity.Actor,
) (_ identity.Identity, err error) {
	if i.ExternalID, err = s.accountOf(ctx, tx, i.TenantID, i.Channel, i.ExternalID); err != nil {
		return i, err
	}
	for range 3 {
		kind := "identity.adopted"
		linked, err := s.adoptUnknown(ctx, tx, i)
		if sqldb.IsNoRows(err) {
			kind = "identity.linked"
			linked, err = s.insertIdentity(ctx, tx, i)
		}
		if sqldb.IsNoRows(err) {
			continue
		}
		if err != nil {
			return linked, err
		}
		events := []identity.Event{identityEvent(linked, kind, by, nil)}
		if linked.RoleOverride != "" {
			events = append(events, identityEvent(linked, "identity.granted", by, changedFields([]string{"role_override"})))
		}
		return linked, recordEvents(ctx, tx, events...)
	}
	return identity.Identity{}, identity.ErrAlreadyLinked
}

// insertIdentity inserts an identity. It returns sql.ErrNoRows if its address exists in its scope.
func (s *Store) insertIdentity(ctx context.Context, tx sqldb.DB, i identity.Identity) (identity.Identity, error) {
	rs, err := tx.Query(ctx, `
		insert into identities (id, tenant_id, customer_id, instance_id, channel, external_id, display_name, username,
			role_override, metadata, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
		on conflict do nothing
		returning `+identityColumns,
		newID(), i.TenantID, i.CustomerID, sqldb.TextOrNull(i.InstanceID), i.Channel, i.ExternalID,
		sqldb.TextOrNull(i.DisplayName), sqldb.TextOrNull(i.Username),
		sqldb.TextOrNull(i.RoleOverride), jsonObject(i.Metadata), s.now())
	return sqldb.ScanOne(rs, err, scanIdentity)
}

// adoptUnknown links the oldest unknown sender with the address of i within its scope to the
// customer of i and merges the others into it. It returns sql.ErrNoRows if there is none.
func (s *Store) adoptUnknown(ctx context.Context, tx sqldb.DB, i identity.Identity) (identity.Identity, error) {
	within, metadata := ``, any(nil)
	if i.InstanceID != "" {
		within = ` and instance_id = $9`
	}
	if m := jsonObject(i.Metadata); m != "{}" {
		metadata = m
	}
	rs, err := tx.Query(ctx, `
		update identities set customer_id = $4, instance_id = $9, display_name = coalesce($5, display_name),
			role_override = $6,
			metadata = coalesce($7, metadata), updated_at = $8
		where tenant_id = $1 and customer_id is null and id = (
			select id from identities
			where tenant_id = $1 and channel = $2 and external_id = $3 and customer_id is null`+within+`
			order by id limit 1)
		returning `+identityColumns,
		i.TenantID, i.Channel, i.ExternalID, i.CustomerID, sqldb.TextOrNull(i.DisplayName),
		sqldb.TextOrNull(i.RoleOverride), metadata, s.now(), sqldb.TextOrNull(i.InstanceID))
	adopted, err := sqldb.ScanOne(rs, err, scanIdentity)
	if s.dialect.IsDuplicate(err) {
		return adopted, identity.ErrAlreadyLinked // a customer has the address for all instances
	}
	if err != nil || i.InstanceID != "" {
		return adopted, err
	}
	return s.mergeUnknown(ctx, tx, adopted)
}

// mergeUnknown merges all unknown senders with the address of kept, which is valid for all
// instances, into kept: it moves their conversations and keeps the earliest opt-out.
func (s *Store) mergeUnknown(ctx context.Context, tx sqldb.DB, kept identity.Identity) (identity.Identity, error) {
	rs, err := tx.Query(ctx, `
		select `+identityColumns+` from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and customer_id is null
			order by id`+s.dialect.ForUpdate(), kept.TenantID, kept.Channel, kept.ExternalID)
	unknown, err := sqldb.ScanAll(rs, err, scanIdentity)
	if err != nil || len(unknown) == 0 {
		return kept, err
	}
	for _, u := range unknown {
		if err := s.absorb(ctx, tx, &kept, u); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// absorb moves the conversations of the identity dropped to kept, and deletes dropped. The earliest
// opt-out is kept.
func (s *Store) absorb(ctx context.Context, tx sqldb.DB, kept *identity.Identity, dropped identity.Identity) error {
	if err := s.revokeCodes(ctx, tx, identity.System, "account_merged", `tenant_id = $1 and id = $2`, dropped.TenantID,
		dropped.ID); err != nil {
		return err
	}
	if kept.OptedOutAt.IsZero() || !dropped.OptedOutAt.IsZero() && dropped.OptedOutAt.Before(kept.OptedOutAt) {
		kept.OptedOutAt = dropped.OptedOutAt
	}
	if dropped.BlockedAt.IsZero() {
		kept.BlockedAt = dropped.BlockedAt // reachable through one instance
	}
	return tx.Batch(ctx, []sqldb.Statement{
		{
			Query: `update conversations set identity_id = $3 where tenant_id = $1 and identity_id = $2`,
			Args:  []any{dropped.TenantID, dropped.ID, kept.ID},
		},
		{
			Query: `delete from identities where tenant_id = $1 and id = $2`,
			Args:  []any{dropped.TenantID, dropped.ID},
		},
		{
			Query: `update identities set opted_out_at = $3, blocked_at = $4 where tenant_id = $1 and id = $2`,
			Args: []any{
				kept.TenantID, kept.ID, sqldb.TimeOrNull(kept.OptedOutAt), sqldb.TimeOrNull(kept.BlockedAt),
			},
		},
	})
}

// linkError returns the reason for a failed link: an unknown customer or instance, otherwise
// refused.
func (s *Store) linkError(ctx context.Context, i identity.Identity, linkErr error) error {
	if err := s.checkCustomer(ctx, i.TenantID, i.CustomerID); err != nil {
		return err
	}
	if i.InstanceID == "" {
		return linkErr
	}
	if _, err := s.Instance(ctx, i.TenantID, i.InstanceID); err != nil {
		return toIdentityError(err)
	}
	return linkErr
}

// Adopt links an unknown sender to a customer and returns the identity. It returns
// identity.ErrAlreadyLinked if the identity belongs to a customer, also if a concurrent call was
// first, and identity.ErrNotFound if the customer or the identity does not exist.
func (s *Store) Adopt(ctx context.Context, k identity.Key, by identity.Actor) (i identity.Identity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			update identities set customer_id = $3, updated_at = $4
			where tenant_id = $1 and id = $2 and customer_id is null
			returning `+identityColumns, k.TenantID, k.IdentityID, k.CustomerID, s.now())
		if i, err = sqldb.ScanOne(rs, err, scanIdentity); err != nil {
			return err
		}
		if err := s.readAliases(ctx, tx, &i); err != nil {
			return err
		}
		return recordEvents(ctx, tx, identityEvent(i, "identity.adopted", by, nil))
	})
	if err == nil {
		return i, nil
	}
	if sqldb.IsNoRows(err) || s.dialect.IsForeignKeyViolation(err) {
		err = s.adoptError(ctx, k.TenantID, k.CustomerID, k.IdentityID)
	}
	return identity.Identity{}, s.identityError("adopt identity", err)
}

// adoptError returns the reason for a failed Adopt.
func (s *Store) adoptError(ctx context.Context, tenant, customer, id string) error {
	if err := s.checkCustomer(ctx, tenant, customer); err != nil {
		return err
	}
	rs, err := s.db.Query(ctx, `select id from identities where tenant_id = $1 and id = $2`, tenant, id)
	if _, err = sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
		return err
	}
	return identity.ErrAlreadyLinked
}

// EditIdentity changes the fields of an identity that e sets and returns the identity. Setting
// Verified, to either value, revokes a live claim code. The row is locked before it is read, so
// that a concurrent claim is not undone. It returns identity.ErrNotFound if the customer has no
// such identity.
func (s *Store) EditIdentity(
	ctx context.Context, k identity.Key, e identity.Edit, by identity.Actor,
) (i identity.Identity, err error) {
	now := s.now()
	endCode := ``
	if e.Verified != nil {
		endCode = `, claim_gen = claim_gen + 1, claim_expires_at = null, claim_used_msg = null`
	}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if e.Verified != nil {
			if err := s.revokeCodes(ctx, tx, by, "verified_set", `tenant_id = $1 and customer_id = $2 and id = $3`, k.TenantID,
				k.CustomerID, k.IdentityID); err != nil {
				return err
			}
		}
		rs, err := tx.Query(ctx, `
			update identities set updated_at = $4`+endCode+`
			where tenant_id = $1 and customer_id = $2 and id = $3
			returning `+identityColumns, k.TenantID, k.CustomerID, k.IdentityID, now)
		before, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		i = before.Apply(e, now)
		i.Metadata = json.RawMessage(jsonObject(i.Metadata))
		_, err = tx.Exec(ctx, `
			update identities set display_name = $3, role_override = $4, metadata = $5, verified_at = $6
			where tenant_id = $1 and id = $2`, k.TenantID, k.IdentityID, sqldb.TextOrNull(i.DisplayName),
			sqldb.TextOrNull(i.RoleOverride),
			string(i.Metadata), sqldb.TimeOrNull(i.VerifiedAt))
		if err == nil && i.ExpiryReason != before.ExpiryReason {
			err = clearExpiry(ctx, tx, k.TenantID, k.IdentityID)
		}
		if err == nil {
			err = s.readAliases(ctx, tx, &i)
		}
		if err != nil {
			return err
		}
		return recordEvents(ctx, tx, editEvents(before, i, e, by)...)
	})
	if err != nil {
		return identity.Identity{}, s.identityError("change identity", err)
	}
	return i, nil
}

// Unlink deletes an identity of a customer and revokes a live claim code. Conversations are kept
// without their identity, and the audit log keeps the owner of the address. It returns
// identity.ErrNotFound if the customer has no such identity.
func (s *Store) Unlink(ctx context.Context, k identity.Key, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			select `+identityColumns+` from identities
			where tenant_id = $1 and customer_id = $2 and id = $3`+s.dialect.ForUpdate(), k.TenantID, k.CustomerID, k.IdentityID)
		i, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		if err := s.revokeCodes(ctx, tx, by, "unlinked", `tenant_id = $1 and id = $2`, k.TenantID, k.IdentityID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id = $2`,
			k.TenantID, k.IdentityID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from identities where tenant_id = $1 and id = $2`, k.TenantID,
			k.IdentityID); err != nil {
			return err
		}
		// A disputed alias may be that of the other account from now on.
		if _, err := tx.Exec(ctx, `
			delete from aliases
			where tenant_id = $1 and channel = $2 and external_id = $3 and disputed_at is not null`,
			k.TenantID, i.Channel, i.ExternalID); err != nil {
			return err
		}
		return recordEvents(ctx, tx, unlinkedEvent(i, by))
	})
	return s.identityError("unlink identity", err)
}

// identityError maps errors of the database to those of package identity.
func (s *Store) identityError(op string, err error) error {
	switch {
	case err == nil || errors.Is(err, identity.ErrAlreadyLinked) || errors.Is(err, identity.ErrNotFound) ||
		errors.Is(err, identity.ErrNoInstance):
		return err
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	}
	return fmt.Errorf("%s: %w", op, err)
}
