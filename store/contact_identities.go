package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

const contactColumns = identityColumns + `, avatar_url, info_url, page_url`

func scanContact(sc sqldb.ScanFunc) (c identity.ContactIdentity, err error) {
	c.Identity, err = scanIdentity(func(dest ...any) error {
		return sc(append(dest, sqldb.Text(&c.AvatarURL), sqldb.Text(&c.InfoURL), sqldb.Text(&c.PageURL))...)
	})
	return c, err
}

// ContactIdentities returns at most q.Limit identities in order of ID after the first q.Skip,
// and the number of all. If q.InstanceID is not empty, identities scoped to other instances are
// left out.
func (s *Store) ContactIdentities(
	ctx context.Context, q identity.ContactQuery,
) (contacts []identity.ContactIdentity, total int, err error) {
	where, args := ` where tenant_id = $1`, []any{q.TenantID}
	if q.InstanceID != "" {
		where, args = where+` and (instance_id = $2 or instance_id is null)`, append(args, q.InstanceID)
	}
	rs, err := s.db.Query(ctx, `select count(*) from identities`+where, args...)
	if total, err = sqldb.ScanOne(rs, err, sqldb.ScanValue[int]); err != nil {
		return nil, 0, s.contactError("count contact identities", err)
	}
	page := fmt.Sprintf(` order by id limit $%d offset $%d`, len(args)+1, len(args)+2)
	rs, err = s.db.Query(ctx, `select `+contactColumns+` from identities`+where+page, append(args, q.Limit, q.Skip)...)
	contacts, err = sqldb.ScanAll(rs, err, scanContact)
	return contacts, total, s.contactError("list contact identities", err)
}

// ContactIdentity returns an identity of the tenant, whether or not it belongs to a customer. It
// returns identity.ErrNotFound if there is none.
func (s *Store) ContactIdentity(ctx context.Context, tenant, id string) (identity.ContactIdentity, error) {
	rs, err := s.db.Query(ctx, `select `+contactColumns+` from identities where tenant_id = $1 and id = $2`, tenant, id)
	c, err := sqldb.ScanOne(rs, err, scanContact)
	return c, s.contactError("read contact identity", err)
}

// CreateContactIdentity stores an unverified identity with a new ID and returns it. With a
// customer, it is linked as by Link. Without one, the address must not exist in its scope. It
// returns identity.ErrAlreadyLinked if the address is taken and identity.ErrNoContact if the
// customer or instance does not exist.
func (s *Store) CreateContactIdentity(
	ctx context.Context, c identity.ContactIdentity, by identity.Actor,
) (created identity.ContactIdentity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		i, err := s.insertContactIdentity(ctx, tx, c.Identity, by)
		if err != nil {
			return err
		}
		rs, err := tx.Query(ctx, `
			update identities set avatar_url = $3, info_url = $4, page_url = $5, username = $6
			where tenant_id = $1 and id = $2 returning `+contactColumns,
			i.TenantID, i.ID, sqldb.TextOrNull(c.AvatarURL), sqldb.TextOrNull(c.InfoURL), sqldb.TextOrNull(c.PageURL),
			sqldb.TextOrNull(c.Username))
		created, err = sqldb.ScanOne(rs, err, scanContact)
		return err
	})
	if err != nil {
		return identity.ContactIdentity{}, s.contactError("create contact identity", err)
	}
	return created, nil
}

// insertContactIdentity stores the part of a contact identity that it has in common with other
// identities.
func (s *Store) insertContactIdentity(
	ctx context.Context, tx sqldb.DB, i identity.Identity, by identity.Actor,
) (identity.Identity, error) {
	if i.CustomerID != "" {
		return s.linkTx(ctx, tx, i, by)
	}
	var err error
	if i.ExternalID, err = s.accountOf(ctx, tx, i.TenantID, i.Channel, i.ExternalID); err != nil {
		return i, err
	}
	if err := s.checkAddressFree(ctx, tx, i); err != nil {
		return i, err
	}
	rs, err := tx.Query(ctx, `
		insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, metadata, created_at,
			updated_at)
		values ($1, $2, $3, $4, $5, $6, '{}', $7, $7)
		returning `+identityColumns, newID(), i.TenantID, sqldb.TextOrNull(i.InstanceID), i.Channel, i.ExternalID,
		sqldb.TextOrNull(i.DisplayName), s.now())
	created, err := sqldb.ScanOne(rs, err, scanIdentity)
	if err != nil {
		return i, err
	}
	return created, recordEvents(ctx, tx, identityEvent(created, "identity.noted", by, nil))
}

// checkAddressFree returns identity.ErrAlreadyLinked if another identity within the scope of i has
// its address. An address without an owner has one row, the oldest, which a later link takes over.
func (s *Store) checkAddressFree(ctx context.Context, tx sqldb.DB, i identity.Identity) error {
	within, args := ``, []any{i.TenantID, i.Channel, i.ExternalID, startAfter(i.ID)}
	if i.InstanceID != "" {
		within, args = ` and (instance_id = $5 or instance_id is null)`, append(args, i.InstanceID)
	}
	rs, err := tx.Query(ctx, `
		select id from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and id <> $4`+within+` limit 1`, args...)
	others, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err == nil && len(others) > 0 {
		err = identity.ErrAlreadyLinked
	}
	return err
}

// ReplaceContactIdentity replaces the customer, the address and the profile of the identity with
// the ID c.ID and returns it. The scope does not change. If the customer or the address changes,
// the verification, the role override and a live claim code end; if the address changes, the
// display name (unless name is set), opt-out and block end, too. All changes and their events are
// made in one transaction.
//
// It returns identity.ErrNotFound if there is no such identity, or if its scope is no longer
// c.InstanceID because it was linked after the caller was authorized for that instance;
// identity.ErrAlreadyLinked if the address is taken; and identity.ErrNoContact if the customer
// does not exist.
func (s *Store) ReplaceContactIdentity(
	ctx context.Context, c identity.ContactIdentity, name *string, by identity.Actor,
) (replaced identity.ContactIdentity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// Lock the row before reading it, so that no claim is redeemed concurrently.
		rs, err := tx.Query(ctx,
			`select `+identityColumns+` from identities where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), c.TenantID,
			c.ID)
		before, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err == nil && before.InstanceID != c.InstanceID {
			err = identity.ErrNotFound
		}
		if err != nil {
			return err
		}
		if c.ExternalID, err = s.accountOf(ctx, tx, c.TenantID, c.Channel, c.ExternalID); err != nil {
			return err
		}
		after := applyReplacement(before, c.Identity, name)
		if ownershipChanged(before, after) {
			if err := s.transferIdentity(ctx, tx, before, after, by); err != nil {
				return err
			}
		}
		rs, err = tx.Query(ctx, `
			update identities set channel = $3, external_id = $4, display_name = $5, username = $6, avatar_url = $7,
				info_url = $8, page_url = $9, updated_at = $10
			where tenant_id = $1 and id = $2 returning `+contactColumns,
			after.TenantID, after.ID, after.Channel, after.ExternalID, sqldb.TextOrNull(after.DisplayName),
			sqldb.TextOrNull(after.Username), sqldb.TextOrNull(c.AvatarURL), sqldb.TextOrNull(c.InfoURL),
			sqldb.TextOrNull(c.PageURL), s.now())
		if replaced, err = sqldb.ScanOne(rs, err, scanContact); err != nil {
			return err
		}
		return recordEvents(ctx, tx, replacementEvents(before, replaced.Identity, by)...)
	})
	if err != nil {
		return identity.ContactIdentity{}, s.contactError("change contact identity", err)
	}
	return replaced, nil
}

// applyReplacement returns before with the customer, address and username of c. The display name
// becomes name if it is set, and is removed if the address changes.
func applyReplacement(before, c identity.Identity, name *string) identity.Identity {
	after := before
	after.CustomerID, after.Channel, after.ExternalID, after.Username = c.CustomerID, c.Channel, c.ExternalID, c.Username
	switch {
	case name != nil:
		after.DisplayName = *name
	case addressChanged(before, after):
		after.DisplayName = ""
	}
	return after
}

// addressChanged reports whether the channel or the external ID differs.
func addressChanged(before, after identity.Identity) bool {
	return before.Channel != after.Channel || before.ExternalID != after.ExternalID
}

// ownershipChanged reports whether a verification of before is not valid for after.
func ownershipChanged(before, after identity.Identity) bool {
	return before.CustomerID != after.CustomerID || addressChanged(before, after)
}

// transferIdentity prepares an identity for its new customer or address: it ends the verification
// and everything else that belongs to the old one. If the identity has a customer and is valid for
// all instances, unknown senders with its address are merged into it.
func (s *Store) transferIdentity(
	ctx context.Context, tx sqldb.DB, before, after identity.Identity, by identity.Actor,
) error {
	if err := s.revokeCodes(ctx, tx, by, "passed_on", `tenant_id = $1 and id = $2`, before.TenantID,
		before.ID); err != nil {
		return err
	}
	if after.CustomerID == "" {
		if err := s.checkAddressFree(ctx, tx, after); err != nil {
			return err
		}
	}
	reset := ``
	if addressChanged(before, after) {
		reset = `, opted_out_at = null, blocked_at = null, refused_at = null`
		after.OptedOutAt, after.BlockedAt = time.Time{}, time.Time{}
		if _, err := tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id = $2`,
			before.TenantID, before.ID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		update identities set customer_id = $3, verified_at = null, `+clearExpirySQL+`, role_override = null,
			claim_gen = claim_gen + 1, claim_expires_at = null,
			claim_used_msg = null, claim_revoked_at = null, unlink_asked_at = null`+reset+`
		where tenant_id = $1 and id = $2`, after.TenantID, after.ID, sqldb.TextOrNull(after.CustomerID))
	if err != nil || after.CustomerID == "" || after.InstanceID != "" {
		return err
	}
	_, err = s.mergeUnknown(ctx, tx, after)
	return err
}

// replacementEvents returns the events for a replacement: the identity was unlinked from its old
// customer, linked to the new one, or only updated.
func replacementEvents(before, after identity.Identity, by identity.Actor) []identity.Event {
	if !ownershipChanged(before, after) {
		return []identity.Event{identityEvent(after, "identity.updated", by, map[string]string{"fields": "contact"})}
	}
	var events []identity.Event
	if before.CustomerID != "" {
		events = append(events, unlinkedEvent(before, by))
	}
	switch {
	case after.CustomerID == "":
		events = append(events, identityEvent(after, "identity.noted", by, nil))
	case before.CustomerID == "" && !addressChanged(before, after):
		events = append(events, identityEvent(after, "identity.adopted", by, nil))
	default:
		events = append(events, identityEvent(after, "identity.linked", by, nil))
	}
	return events
}

// DeleteContactIdentity deletes an identity of the tenant with the scope instance, "" for all
// instances. It returns identity.ErrNotFound if there is none. Conversations are kept without
// their identity, and the audit log keeps the owner of the address.
func (s *Store) DeleteContactIdentity(ctx context.Context, k identity.SenderKey, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx,
			`select `+identityColumns+` from identities where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), k.TenantID,
			k.IdentityID)
		i, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err == nil && i.InstanceID != k.InstanceID {
			err = identity.ErrNotFound
		}
		if err != nil {
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
		return recordEvents(ctx, tx, unlinkedEvent(i, by))
	})
	return s.contactError("delete contact identity", err)
}

// contactError maps errors of the database to those of package identity. A violated foreign key
// refers to the customer, the only row that callers name.
func (s *Store) contactError(op string, err error) error {
	switch {
	case err == nil || errors.Is(err, identity.ErrAlreadyLinked) || errors.Is(err, identity.ErrNotFound):
		return err
	case s.dialect.IsDuplicate(err):
		return identity.ErrAlreadyLinked
	case s.dialect.IsForeignKeyViolation(err):
		return identity.ErrNoContact
	case sqldb.IsNoRows(err) || s.dialect.IsUnstorable(err):
		return identity.ErrNotFound
	}
	return fmt.Errorf("%s: %w", op, err)
}
