package store

import (
	"context"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// findInvite locks an invite of a customer for the transaction and returns it with its opener. It
// returns identity.ErrNotFound if there is none.
func (s *Store) findInvite(ctx context.Context, tx sqldb.DB, k claim.InviteKey) (claim.Invite, error) {
	within, args := ``, []any{k.TenantID, k.CustomerID, k.InviteID}
	if k.InstanceID != "" {
		within, args = ` and instance_id = $4`, append(args, k.InstanceID)
	}
	where := ` where tenant_id = $1 and customer_id = $2 and id = $3` + within
	// The order of locks is the same everywhere: the customer, its invites, its identities.
	if _, err := tx.Exec(ctx, `update customers set updated_at = updated_at where tenant_id = $1 and id = $2`,
		k.TenantID, k.CustomerID); err != nil {
		return claim.Invite{}, err
	}
	if _, err := tx.Exec(ctx, `update invites set fence = fence`+where, args...); err != nil {
		return claim.Invite{}, err
	}
	rs, err := tx.Query(ctx, s.invitesWithOpenersQuery(where), args...)
	return sqldb.ScanOne(rs, err, scanInviteWithOpener)
}

// checkPending returns an error unless an invite waits for the confirmation of staff.
func checkPending(i claim.Invite) error {
	switch i.Status() {
	case claim.Pending:
		return nil
	case claim.Used:
		return claim.ErrInviteUsed
	default:
		return claim.ErrNotPending
	}
}

// PendingInvite returns an invite that waits for the confirmation of staff, with the conversations to
// notify. It returns identity.ErrNotFound if there is no such invite, claim.ErrInviteUsed if it was
// redeemed, claim.ErrNotPending if no account waits, and claim.ErrOpenerGone if the account was
// deleted.
func (s *Store) PendingInvite(ctx context.Context, k claim.InviteKey) (c claim.Confirmation, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		c = claim.Confirmation{}
		if c.Invite, err = s.findInvite(ctx, tx, k); err != nil {
			return err
		}
		if err := checkPending(c.Invite); err != nil {
			return err
		}
		o := c.Invite.Opener
		rs, err := tx.Query(ctx, `
			select c.place_id, n.agent_url from conversations c
			join instances n on n.tenant_id = c.tenant_id and n.id = c.instance_id
			where c.tenant_id = $1 and c.id = $2 and $3 <> ''`, k.TenantID, o.ConversationID, o.ExternalID)
		_, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
			return struct{}{}, sc(&c.ChatID, sqldb.Text(&c.AgentURL))
		})
		if sqldb.IsNoRows(err) {
			return claim.ErrOpenerGone
		}
		if err != nil {
			return err
		}
		return tx.Batch(ctx, []sqldb.Statement{
			s.customerConversationsStmt(k.TenantID, k.CustomerID, o.IdentityID, &c.LinkedConversations),
			maskedNameStmt(`invites v`, `v.tenant_id = $1 and v.id = $2`, []any{k.TenantID, k.InviteID}, &c.MaskedName),
		})
	})
	return c, s.inviteError("read pending invite", err)
}

// customerConversationsStmt reads the direct conversations with the verified identities of a customer
// except one, one for each identity and instance.
func (s *Store) customerConversationsStmt(
	tenant, customer, except string, linked *[]claim.LinkedConversation,
) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text), cast(i.id as text), 0
		from identities i
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where i.tenant_id = $1 and i.customer_id = $2 and i.id <> $3 and i.verified_at is not null and i.doubt is null
		group by c.instance_id, i.id order by 5, 4 limit 20`, Args: []any{tenant, customer, except},
		Read: sqldb.ScanInto(linked, scanLinkedConversation),
	}
}

// ConfirmInvite links the account that opened the invite of c to the customer and verifies it, with
// the replies and the deliveries of the commit, which get the ID of the identity. It returns the
// errors of PendingInvite, claim.ErrNotPending also if another account waits by now,
// claim.ErrOpenerGone if the account belongs to another customer by now, and
// claim.ErrOwnerConfirmation if an owner of the customer must confirm accounts.
func (s *Store) ConfirmInvite(
	ctx context.Context, c claim.Confirmation, commit gateway.Commit, by identity.Actor,
) (i claim.Invite, err error) {
	k := claim.InviteKey{TenantID: c.Invite.TenantID, CustomerID: c.Invite.CustomerID, InviteID: c.Invite.ID}
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		current, err := s.findInvite(ctx, tx, k)
		if err != nil {
			return err
		}
		if err := checkPending(current); err != nil {
			return err
		}
		if current.Opener.MessageID != c.Invite.Opener.MessageID {
			return claim.ErrNotPending
		}
		if err := s.checkNoOwnerNeeded(ctx, tx, current); err != nil {
			return err
		}
		id, err := s.openerIdentity(ctx, tx, current)
		if err != nil {
			return err
		}
		if err := s.confirmTx(ctx, tx, current, id, commit); err != nil {
			return err
		}
		e := inviteEvent(current, "invite.confirmed", by, "")
		e.IdentityID = id
		if err := recordEvents(ctx, tx, e); err != nil {
			return err
		}
		i, err = s.findInvite(ctx, tx, k)
		return err
	})
	if s.dialect.IsCheckViolation(err, "invites_fence") || s.dialect.IsCheckViolation(err, "lanes_claim") {
		err = claim.ErrOpenerGone
	}
	return i, s.inviteError("confirm invite", err)
}

// confirmTx redeems an invite for the identity and stores the replies and the event of the commit.
func (s *Store) confirmTx(
	ctx context.Context, tx sqldb.DB, i claim.Invite, id string, commit gateway.Commit,
) error {
	o := i.Opener
	a := claim.Attempt{
		TenantID: i.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, SenderID: o.ExternalID,
		MessageID: o.MessageID, ReceivedAt: i.ExpiresAt, // it has not expired
	}
	commit.Lease = gateway.Lease{TenantID: i.TenantID, ConversationID: o.ConversationID}
	commit.Participant = &gateway.ConversationParticipant{
		ConversationID: o.ConversationID, TenantID: i.TenantID, Address: identity.Address{
			TenantID: i.TenantID, InstanceID: i.InstanceID, Channel: i.Channel, ExternalID: o.ExternalID,
		},
	}
	for n := range commit.Deliveries {
		commit.Deliveries[n].IdentityID = id
	}
	stmts := s.redeemInviteStmts(claim.Redemption{Invite: i, IdentityID: id}, a, o.ConversationID)
	stmts = append(stmts, dropResultStmt(i.TenantID, o.MessageID))
	stmts = append(stmts, s.senderStmts(commit)...)
	stmts = append(stmts, s.deliveryStmts(commit)...)
	outbox, err := s.outboxStmts(commit)
	if err != nil {
		return err
	}
	return tx.Batch(ctx, append(stmts, outbox...))
}

// openerIdentity returns the ID of the identity, scoped to the instance of the invite, of the account
// that opened it. It inserts the identity if that of the account has another scope. It returns
// claim.ErrOpenerGone if the account was deleted.
func (s *Store) openerIdentity(ctx context.Context, tx sqldb.DB, i claim.Invite) (string, error) {
	rs, err := tx.Query(ctx, `
		select `+identityColumns+` from identities where tenant_id = $1 and id = $2 and channel = $3`+s.dialect.ForUpdate(),
		i.TenantID, i.Opener.IdentityID, i.Channel)
	opener, err := sqldb.ScanOne(rs, err, scanIdentity)
	switch {
	case sqldb.IsNoRows(err):
		return "", claim.ErrOpenerGone
	case err != nil || opener.InstanceID == i.InstanceID:
		return opener.ID, err
	}
	now := s.now()
	if _, err := tx.Exec(ctx, `
		insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, username, created_at,
			updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $8) on conflict do nothing`,
		newID(), i.TenantID, i.InstanceID, i.Channel, opener.ExternalID, sqldb.TextOrNull(opener.DisplayName),
		sqldb.TextOrNull(opener.Username), now); err != nil {
		return "", err
	}
	rs, err = tx.Query(ctx, `
		select id from identities where tenant_id = $1 and channel = $2 and external_id = $3 and instance_id = $4`,
		i.TenantID, i.Channel, opener.ExternalID, i.InstanceID)
	return sqldb.ScanOne(rs, err, sqldb.ScanString)
}

// RefuseInvite refuses the account that opened an invite, which ends the invite. It does nothing if it
// was refused already, and returns the errors of PendingInvite except claim.ErrOpenerGone.
func (s *Store) RefuseInvite(ctx context.Context, k claim.InviteKey, by identity.Actor) (i claim.Invite, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		if i, err = s.findInvite(ctx, tx, k); err != nil || i.Status() == claim.Rejected {
			return err
		}
		if err := checkPending(i); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update invites set refused_at = $3 where tenant_id = $1 and id = $2`, k.TenantID,
			k.InviteID, s.now()); err != nil {
			return err
		}
		if err := s.notifyOpeners(ctx, tx, i); err != nil {
			return err
		}
		e := inviteEvent(i, "invite.refused", by, "")
		e.IdentityID = i.Opener.IdentityID
		if err := recordEvents(ctx, tx, e); err != nil {
			return err
		}
		i, err = s.findInvite(ctx, tx, k)
		return err
	})
	return i, s.inviteError("refuse invite", err)
}
