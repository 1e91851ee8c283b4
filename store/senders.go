package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// senderErased is the kind of the event about an erased unknown sender. Its detail contains the
// pseudonym of the address.
const senderErased = "identity.erased"

// EraseSender erases an unknown sender, that is the address of the identity, as EraseAddress does.
// It returns identity.ErrNotFound if there is no such identity and identity.ErrAlreadyLinked if it
// belongs to a customer.
func (s *Store) EraseSender(
	ctx context.Context, tenant, id string, by identity.Actor,
) (targets []claim.Target, err error) {
	rs, err := s.db.Query(ctx, `
		select `+identityColumns+` from identities where tenant_id = $1 and id = $2`, tenant, id)
	i, err := sqldb.ScanOne(rs, err, scanIdentity)
	if err == nil && i.CustomerID != "" {
		err = identity.ErrAlreadyLinked
	}
	if err != nil {
		return nil, s.identityError("erase sender", err)
	}
	return s.EraseAddress(ctx, identity.Address{TenantID: tenant, Channel: i.Channel, ExternalID: i.ExternalID}, by)
}

// EraseAddress erases everything that is stored about an address in all instances in which it
// belongs to no customer: its identities as an unknown sender; its direct conversations; in groups
// its messages and the replies to them; deliveries, receipts and failed attempts; and stored
// responses that mention it. In the audit log and, if no customer has the address, in the address
// history, pseudonyms replace the external ID. Messages that the address sent before, and that are
// found later in the spool or in the log of a provider, are dropped.
//
// EraseAddress returns the targets of deleted claim codes, identity.ErrNotFound if nothing is stored
// about the address, and identity.ErrAlreadyLinked if it belongs to a customer everywhere.
func (s *Store) EraseAddress(
	ctx context.Context, a identity.Address, by identity.Actor,
) (targets []claim.Target, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		e := &erasure{store: s, tx: tx, tenant: a.TenantID, actor: by, counts: map[string]int64{}}
		if err := e.eraseAddress(ctx, a); err != nil {
			return err
		}
		targets = claimTargets(e.deleted)
		return s.requestScrub(ctx, tx)
	})
	if err != nil {
		return nil, s.identityError("erase address", err)
	}
	s.scrubErased(ctx)
	return targets, nil
}

// eraseAddress implements EraseAddress in a transaction.
func (e *erasure) eraseAddress(ctx context.Context, a identity.Address) error {
	var err error
	if a.ExternalID, err = e.store.accountOf(ctx, e.tx, e.tenant, a.Channel, a.ExternalID); err != nil {
		return err
	}
	owners, err := e.store.loadAddressOwners(ctx, e.tx, e.tenant, "", a.Channel, a.ExternalID)
	if err != nil {
		return err
	}
	e.addAddress(owners)
	for _, step := range []func(context.Context) error{
		e.lockConversations, e.eraseConversations, e.eraseFailures, e.eraseIdentities, e.eraseAliases, e.eraseHistory,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	erased := int64(0)
	for _, n := range e.counts {
		erased += n
	}
	switch {
	case erased > 0:
	case len(owners.otherCustomers) > 0:
		return identity.ErrAlreadyLinked
	default:
		return identity.ErrNotFound
	}
	for _, step := range []func(context.Context) error{e.eraseResponses, e.eraseEvents} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return e.recordSender(ctx, senderErased, a)
}

// addAddress adds an address and its aliases to the erasure, with the names that it had.
func (e *erasure) addAddress(a addressOwners) {
	e.addresses = append(e.addresses, a)
	for _, alias := range a.aliases {
		e.addresses = append(e.addresses, a.under(alias))
	}
	for _, i := range slices.Concat(a.own, a.unknownSenders) {
		e.terms = append(e.terms, i.DisplayName, i.Username)
	}
}

// recordSender records an event about an unknown sender with the counts of deleted rows and the
// pseudonym of the address.
func (e *erasure) recordSender(ctx context.Context, kind string, a identity.Address) error {
	detail := map[string]string{
		"channel": a.Channel, "external_id": e.store.newPseudonym(e.tenant, a.Channel, a.ExternalID),
	}
	maps.Copy(detail, e.countDetail())
	ev := identity.Event{TenantID: e.tenant, Kind: kind, Actor: e.actor, InstanceID: e.instance, Detail: detail}
	if len(e.deleted) == 1 {
		ev.IdentityID = e.deleted[0].ID
	}
	return recordEvents(ctx, e.tx, ev)
}

// expiredSenders is the maximum number of unknown senders that one purge erases.
const expiredSenders = 500

// errNotExpired ends the transaction of a sender who has written in the meantime.
var errNotExpired = errors.New("store: sender has not expired")

// expireUnknownSenders erases the unknown senders who have not written within the period of their
// tenant, each in its instance and in a transaction of its own, and returns their number. Senders
// who opted out are kept, so that they are not written to. It erases the oldest first and leaves
// the rest to the next purge.
func (s *Store) expireUnknownSenders(ctx context.Context) (int64, error) {
	rs, err := s.db.Query(ctx, `
		select i.tenant_id, i.id, i.instance_id, i.channel, i.external_id
		from tenants t
		join identities i on i.tenant_id = t.id
		where `+s.expiredSenderCondition()+`
		order by i.last_heard_at limit $1`, expiredSenders)
	ids := []string{}
	addresses, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (a identity.Address, err error) {
		var id string
		err = sc(sqldb.Text(&a.TenantID), sqldb.Text(&id), sqldb.Text(&a.InstanceID), &a.Channel, &a.ExternalID)
		ids = append(ids, id)
		return a, err
	})
	if err != nil {
		return 0, fmt.Errorf("list expired senders: %w", err)
	}
	var expired int64
	for n, a := range addresses {
		switch err := s.expireSender(ctx, a, ids[n]); {
		case err == nil:
			expired++
		case !errors.Is(err, errNotExpired):
			return expired, fmt.Errorf("expire unknown sender: %w", err)
		}
	}
	return expired, nil
}

// expiredSenderCondition returns the condition on tenants t and identities i for unknown senders to
// be erased. An identity that the API created and that has not written has no last_heard_at.
func (s *Store) expiredSenderCondition() string {
	return `i.customer_id is null and i.instance_id is not null and i.opted_out_at is null
		and i.last_heard_at < ` + s.dialect.NowPlusExpr(`-86400 * t.unknown_sender_days`) + `
		and not exists (
			select 1 from conversations c
			join messages m on m.conversation_id = c.id
			where c.tenant_id = i.tenant_id and c.identity_id = i.id
				and (m.state = 'new' or m.received_at >= ` + s.dialect.NowPlusExpr(`-86400 * t.unknown_sender_days`) + `))`
}

// expireSender erases an unknown sender in the instance of a.
func (s *Store) expireSender(ctx context.Context, a identity.Address, id string) error {
	return s.db.InTx(ctx, func(tx sqldb.DB) error {
		e := &erasure{
			store: s, tx: tx, tenant: a.TenantID, instance: a.InstanceID, actor: identity.System, counts: map[string]int64{},
		}
		owners, err := s.loadAddressOwners(ctx, tx, a.TenantID, "", a.Channel, a.ExternalID)
		if err != nil {
			return err
		}
		e.addAddress(owners)
		if err := e.lockConversations(ctx); err != nil {
			return err
		}
		rs, err := tx.Query(ctx, `
			select i.id from tenants t
			join identities i on i.tenant_id = t.id
			where t.id = $1 and i.id = $2 and `+s.expiredSenderCondition(), a.TenantID, id)
		if _, err := sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
			if sqldb.IsNoRows(err) {
				return errNotExpired
			}
			return err
		}
		for _, step := range []func(context.Context) error{
			e.eraseConversations, e.eraseFailures, e.eraseIdentities, e.eraseAliases, e.eraseEvents,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return e.recordSender(ctx, "identity.expired", a)
	})
}

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
func (s *Store) IsSenderBlocked(ctx context.Context, a identity.Address) (_ bool, err error) {
	if a.ExternalID, err = s.accountOf(ctx, s.db, a.TenantID, a.Channel, a.ExternalID); err != nil {
		return false, fmt.Errorf("look up block: %w", err)
	}
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
