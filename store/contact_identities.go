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

// ContactIdentities gives identities in order of id after the first skip, and how
// many there are. With an instance, those of other instances are left out.
func (s *Store) ContactIdentities(ctx context.Context, tenant, instance string, skip, limit int) (cs []identity.ContactIdentity, total int, err error) {
	where, args := ` where tenant_id = $1`, []any{tenant}
	if instance != "" {
		where, args = where+` and (instance_id = $2 or instance_id is null)`, append(args, instance)
	}
	rs, err := s.db.Query(ctx, `select count(*) from identities`+where, args...)
	if total, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (n int, err error) { return n, sc(&n) }); err != nil {
		return nil, 0, s.contactError("count contact identities", err)
	}
	page := fmt.Sprintf(` order by id limit $%d offset $%d`, len(args)+1, len(args)+2)
	rs, err = s.db.Query(ctx, `select `+contactColumns+` from identities`+where+page, append(args, limit, skip)...)
	cs, err = sqldb.ScanAll(rs, err, scanContact)
	return cs, total, s.contactError("list contact identities", err)
}

// ContactIdentity gives any identity of the tenant; identity.ErrNotFound.
func (s *Store) ContactIdentity(ctx context.Context, tenant, id string) (identity.ContactIdentity, error) {
	rs, err := s.db.Query(ctx, `select `+contactColumns+` from identities where tenant_id = $1 and id = $2`, tenant, id)
	c, err := sqldb.ScanOne(rs, err, scanContact)
	return c, s.contactError("read contact identity", err)
}

// CreateContactIdentity keeps an identity with a new id, unverified. With a contact it
// is linked as Link does. identity.ErrTaken, httpapi.ErrNoContact.
func (s *Store) CreateContactIdentity(ctx context.Context, c identity.ContactIdentity, by identity.Actor) (kept identity.ContactIdentity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		i, err := s.insertContactIdentity(ctx, tx, c.Identity, by)
		if err != nil {
			return err
		}
		rs, err := tx.Query(ctx, `
			update identities set avatar_url = $3, info_url = $4, page_url = $5, username = $6
			where tenant_id = $1 and id = $2 returning `+contactColumns,
			i.TenantID, i.ID, sqldb.TextOrNull(c.AvatarURL), sqldb.TextOrNull(c.InfoURL), sqldb.TextOrNull(c.PageURL), sqldb.TextOrNull(c.Username))
		kept, err = sqldb.ScanOne(rs, err, scanContact)
		return err
	})
	if err != nil {
		return identity.ContactIdentity{}, s.contactError("create contact identity", err)
	}
	return kept, nil
}

func (s *Store) insertContactIdentity(ctx context.Context, tx sqldb.DB, i identity.Identity, by identity.Actor) (identity.Identity, error) {
	if i.CustomerID != "" {
		return s.linkTx(ctx, tx, i, by)
	}
	if err := s.checkAddressFree(ctx, tx, i); err != nil {
		return i, err
	}
	rs, err := tx.Query(ctx, `
		insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, metadata, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, '{}', $7, $7)
		returning `+identityColumns, newID(), i.TenantID, sqldb.TextOrNull(i.InstanceID), i.Channel, i.ExternalID, sqldb.TextOrNull(i.DisplayName), s.now())
	noted, err := sqldb.ScanOne(rs, err, scanIdentity)
	if err != nil {
		return i, err
	}
	return noted, recordEvents(ctx, tx, identityEvent(noted, "identity.noted", by, nil))
}

// checkAddressFree gives identity.ErrTaken when another row within i's scope has i's
// address. An address without an owner is noted once: as the oldest of its address it
// is the row that a later link takes over.
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

// ReplaceContactIdentity changes the identity of c's id; where it lives stays. A new
// owner or a new address takes verification, role override and a live claim code with
// it, and a new address also what was known of the old one. One that lives elsewhere than c
// says is not found: it was taken over since the caller's right to change it was looked at.
func (s *Store) ReplaceContactIdentity(ctx context.Context, c identity.ContactIdentity, name *string, by identity.Actor) (kept identity.ContactIdentity, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		// The row is locked before it is read, so that no claim is redeemed meanwhile.
		rs, err := tx.Query(ctx, `select `+identityColumns+` from identities where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), c.TenantID, c.ID)
		was, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err == nil && was.InstanceID != c.InstanceID {
			err = identity.ErrNotFound
		}
		if err != nil {
			return err
		}
		is := applyReplacement(was, c.Identity, name)
		if ownershipChanged(was, is) {
			if err := s.transferIdentity(ctx, tx, was, is, by); err != nil {
				return err
			}
		}
		rs, err = tx.Query(ctx, `
			update identities set channel = $3, external_id = $4, display_name = $5, username = $6, avatar_url = $7, info_url = $8, page_url = $9, updated_at = $10
			where tenant_id = $1 and id = $2 returning `+contactColumns,
			is.TenantID, is.ID, is.Channel, is.ExternalID, sqldb.TextOrNull(is.DisplayName), sqldb.TextOrNull(is.Username), sqldb.TextOrNull(c.AvatarURL), sqldb.TextOrNull(c.InfoURL), sqldb.TextOrNull(c.PageURL), s.now())
		if kept, err = sqldb.ScanOne(rs, err, scanContact); err != nil {
			return err
		}
		return recordEvents(ctx, tx, replacementEvents(was, kept.Identity, by)...)
	})
	if err != nil {
		return identity.ContactIdentity{}, s.contactError("change contact identity", err)
	}
	return kept, nil
}

// applyReplacement gives was with what c says. A name that nobody gives stays with its
// address.
func applyReplacement(was, c identity.Identity, name *string) identity.Identity {
	is := was
	is.CustomerID, is.Channel, is.ExternalID, is.Username = c.CustomerID, c.Channel, c.ExternalID, c.Username
	switch {
	case name != nil:
		is.DisplayName = *name
	case addressChanged(was, is):
		is.DisplayName = ""
	}
	return is
}

func addressChanged(was, is identity.Identity) bool {
	return was.Channel != is.Channel || was.ExternalID != is.ExternalID
}

// ownershipChanged reports whether what was proven of the one need not hold for the other.
func ownershipChanged(was, is identity.Identity) bool {
	return was.CustomerID != is.CustomerID || addressChanged(was, is)
}

// transferIdentity gives an identity to its new owner, or readies it for its new address, and ends
// what was proven. Unknown rows of the address come to an identity that has an owner
// and is of every instance.
func (s *Store) transferIdentity(ctx context.Context, tx sqldb.DB, was, is identity.Identity, by identity.Actor) error {
	if err := s.revokeCodes(ctx, tx, by, "passed_on", `tenant_id = $1 and id = $2`, was.TenantID, was.ID); err != nil {
		return err
	}
	if is.CustomerID == "" {
		if err := s.checkAddressFree(ctx, tx, is); err != nil {
			return err
		}
	}
	forget := ``
	if addressChanged(was, is) {
		forget = `, opted_out_at = null, blocked_at = null, refused_at = null`
		is.OptedOutAt, is.BlockedAt = time.Time{}, time.Time{}
		if _, err := tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id = $2`, was.TenantID, was.ID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		update identities set customer_id = $3, verified_at = null, `+clearExpirySQL+`, role_override = null, claim_gen = claim_gen + 1, claim_expires_at = null,
			claim_used_msg = null, claim_revoked_at = null, unlink_asked_at = null`+forget+`
		where tenant_id = $1 and id = $2`, is.TenantID, is.ID, sqldb.TextOrNull(is.CustomerID))
	if err != nil || is.CustomerID == "" || is.InstanceID != "" {
		return err
	}
	_, err = s.mergeUnknown(ctx, tx, is)
	return err
}

// replacementEvents tell a replacement: whose the account was, whose it is, or just that
// it was described anew.
func replacementEvents(was, is identity.Identity, by identity.Actor) []identity.Event {
	if !ownershipChanged(was, is) {
		return []identity.Event{identityEvent(is, "identity.updated", by, map[string]string{"fields": "contact"})}
	}
	var events []identity.Event
	if was.CustomerID != "" {
		events = append(events, unlinkedEvent(was, by))
	}
	switch {
	case is.CustomerID == "":
		events = append(events, identityEvent(is, "identity.noted", by, nil))
	case was.CustomerID == "" && !addressChanged(was, is):
		events = append(events, identityEvent(is, "identity.adopted", by, nil))
	default:
		events = append(events, identityEvent(is, "identity.linked", by, nil))
	}
	return events
}

// DeleteContactIdentity removes any identity of the tenant that lives in an instance, or in
// all of them (""); identity.ErrNotFound. Its conversations stay and belong to nobody. The
// audit log keeps whose it was.
func (s *Store) DeleteContactIdentity(ctx context.Context, tenant, instance, id string, by identity.Actor) error {
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `select `+identityColumns+` from identities where tenant_id = $1 and id = $2`+s.dialect.ForUpdate(), tenant, id)
		i, err := sqldb.ScanOne(rs, err, scanIdentity)
		if err == nil && i.InstanceID != instance {
			err = identity.ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id = $2`, tenant, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from identities where tenant_id = $1 and id = $2`, tenant, id); err != nil {
			return err
		}
		return recordEvents(ctx, tx, unlinkedEvent(i, by))
	})
	return s.contactError("delete contact identity", err)
}

// contactError puts the domain's errors in place of the database's. The only row that
// an identity refers to, and that a caller names, is its contact.
func (s *Store) contactError(doing string, err error) error {
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
	return fmt.Errorf("%s: %w", doing, err)
}
