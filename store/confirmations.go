package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// isOwnerExpr returns the condition that identity i is a verified owner whose verification has not
// expired at an instance. Instance is an expression for its ID, and $1 is the tenant.
func (s *Store) isOwnerExpr(i, instance string) string {
	return i + `.verified_at is not null and ` + i + `.role_override = '` + identity.RoleOwner + `' and ` + i +
		`.doubt is null and ` + i + `.verified_at > ` + s.dialect.NowPlusExpr(`-86400.0 * coalesce((
			select p.owner_max_age_days from instances p where p.tenant_id = $1 and p.id = `+instance+`), 36500)`)
}

// needsOwnerExpr returns the condition that claims for a customer wait for an owner: the tenant
// wants it, and the customer has a verified owner. The arguments are expressions for IDs, and $1 is
// the tenant.
func (s *Store) needsOwnerExpr(customer, instance string) string {
	return `exists (
		select 1 from tenants t
		join identities o on o.tenant_id = t.id and o.customer_id = ` + customer + `
		where t.id = $1 and t.owner_confirmation and ` + s.isOwnerExpr("o", instance) + `)`
}

// waitingExpr returns the condition that the code of request r is still used by its message and that
// nothing has happened to the identity i since.
const waitingExpr = `i.tenant_id = r.tenant_id and i.id = r.identity_id and i.customer_id = r.customer_id
	and i.claim_gen = r.claim_gen and i.claim_used_msg = r.message_id and i.claim_revoked_at is null
	and i.verified_at is null`

// answererExpr returns the condition that identity o may answer request r. Its verification may be
// too old for an instance; the worker rejects that.
const answererExpr = `o.tenant_id = r.tenant_id and o.customer_id = r.customer_id and o.verified_at is not null
	and o.role_override = '` + identity.RoleOwner + `' and o.doubt is null`

// Requests implements claim.Store. It returns no requests unless the sender of the attempt is a
// verified owner of the customer.
func (s *Store) Requests(ctx context.Context, a claim.Attempt, customerID string) ([]claim.Request, error) {
	rs, err := s.db.Query(ctx, `
		select r.id, r.identity_id, i.channel, i.external_id, i.instance_id, r.claim_gen, r.number, r.message_id,
			r.instance_id, r.conversation_id, r.tries, c.place_id, n.agent_url
		from claim_requests r
		join identities i on `+waitingExpr+`
		join identities o on `+answererExpr+` and o.id = $4
		join conversations c on c.tenant_id = r.tenant_id and c.id = r.conversation_id
		join instances n on n.tenant_id = r.tenant_id and n.id = r.instance_id
		where r.tenant_id = $1 and r.customer_id = $2 and r.answered_at is null and r.expires_at >= $3
		order by r.id desc limit 20`, a.TenantID, customerID, a.ReceivedAt, a.IdentityID)
	requests, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (q claim.Request, err error) {
		q.Target.TenantID = a.TenantID
		err = sc(&q.ID, &q.Target.IdentityID, &q.Target.Channel, &q.Target.ExternalID, sqldb.Text(&q.Target.InstanceID),
			&q.Target.Gen, &q.Number, &q.MessageID, &q.InstanceID, &q.ConversationID, &q.Tries, &q.ChatID,
			sqldb.Text(&q.AgentURL))
		return q, err
	})
	if err != nil || len(requests) == 0 {
		return nil, err
	}
	var stmts []sqldb.Statement
	for n := range requests {
		q := &requests[n]
		stmts = append(stmts,
			s.linkedConversationsStmt(a.TenantID, q.Target.IdentityID, &q.LinkedConversations),
			maskedNameStmt(`identities v`, `v.tenant_id = $1 and v.id = $2`, []any{a.TenantID, q.Target.IdentityID},
				&q.MaskedName))
	}
	return requests, s.db.Batch(ctx, stmts)
}

// askStmts returns the statements that redeem a code without granting anything, and store the request
// to the owners. They violate a check constraint if the code can no longer be redeemed.
func (s *Store) askStmts(q *claim.Request, a claim.Attempt, l gateway.Lease) []sqldb.Statement {
	if q == nil {
		return nil
	}
	return []sqldb.Statement{
		{
			Query: `
			update identities set
				claim_gen = case when claim_gen = $3 and customer_id is not null and verified_at is null and claim_used_msg is null
					and claim_revoked_at is null and claim_expires_at >= $4 then claim_gen else -1 end,
				claim_used_msg = $5
			where tenant_id = $1 and id = $2`,
			Args: []any{a.TenantID, q.Target.IdentityID, q.Target.Gen, a.ReceivedAt, a.MessageID},
		},
		{
			Query: `
			update lanes set wakes = -1
			where tenant_id = $1 and conversation_id = $2 and kind = $3
				and not exists (select 1 from identities where tenant_id = $1 and id = $4)`,
			Args: []any{a.TenantID, l.ConversationID, string(l.Kind), q.Target.IdentityID},
		},
		{
			Query: `
			insert into claim_requests (id, tenant_id, customer_id, identity_id, instance_id, conversation_id, message_id,
				claim_gen, number, expires_at)
			select $3, tenant_id, customer_id, id, $4, $5, $6, claim_gen, $7, ` +
				s.dialect.NowPlus(int(claim.OwnerConfirmationTime/time.Second)) + `
			from identities where tenant_id = $1 and id = $2`,
			Args: []any{a.TenantID, q.Target.IdentityID, newID(), a.InstanceID, l.ConversationID, a.MessageID, q.Number},
		},
	}
}

// answerStmts returns the statements that store the answer of an owner, and verify the identity if
// the owner agreed. They violate a check constraint if the claim no longer waits, if anything has
// happened to the identity, or if the sender is no longer an owner.
func (s *Store) answerStmts(w *claim.Answer, a claim.Attempt, l gateway.Lease) []sqldb.Statement {
	switch {
	case w == nil:
		return nil
	case w.WrongNumber:
		return []sqldb.Statement{{
			Query: `update claim_requests set tries = tries + 1 where tenant_id = $1 and id = $2 and answered_at is null`,
			Args:  []any{a.TenantID, w.Request.ID},
		}}
	}
	q, now := w.Request, s.now()
	stmts := []sqldb.Statement{
		{Query: `
			update claim_requests set
				fence = case when answered_at is null and expires_at >= $3
					and exists (select 1 from identities o, claim_requests r where r.tenant_id = $1 and r.id = $2 and ` +
			answererExpr + ` and o.id = $4)
					and exists (select 1 from identities i, claim_requests r where r.tenant_id = $1 and r.id = $2 and ` +
			waitingExpr + `) then fence else -1 end,
				answered_at = $5
			where tenant_id = $1 and id = $2`, Args: []any{a.TenantID, q.ID, a.ReceivedAt, w.OwnerID, now}},
		{
			Query: `
			update lanes set wakes = -1
			where tenant_id = $1 and conversation_id = $2 and kind = $3
				and not exists (select 1 from claim_requests where tenant_id = $1 and id = $4)`,
			Args: []any{a.TenantID, l.ConversationID, string(l.Kind), q.ID},
		},
	}
	if !w.Agreed {
		return append(stmts, s.sendResultStmts(a.TenantID, q.MessageID, q.ConversationID)...)
	}
	claimed := claim.Attempt{
		TenantID: a.TenantID, InstanceID: q.InstanceID, Channel: q.Target.Channel, MessageID: q.MessageID,
		ReceivedAt: a.ReceivedAt,
	}
	return append(stmts,
		// A concurrent statement that locked the identity first has changed what the fence above saw.
		sqldb.Statement{
			Query: `
			update identities set
				claim_gen = case when claim_gen = $3 and verified_at is null and claim_used_msg = $4 and claim_revoked_at is null
					and customer_id = (select r.customer_id from claim_requests r where r.tenant_id = $1 and r.id = $7)
					then claim_gen else -1 end,
				verified_at = $5, role_override = ` + grantedRoleExpr("identities", "$6") + `,
				unlink_asked_at = null, updated_at = $5, last_heard_at = $5, ` + clearExpirySQL + `
			where tenant_id = $1 and id = $2`,
			Args: []any{a.TenantID, q.Target.IdentityID, q.Target.Gen, q.MessageID, now, identity.RoleOwner, q.ID},
		},
		selfServiceStmt(claimed, q.Target.IdentityID),
		dropResultStmt(a.TenantID, q.MessageID))
}

// The result of a claim that waits for staff or for an owner is stored with the claim, as a reply
// that says that no one confirmed it and is sent when the time for that is over. It is the only
// reminder that the message causes.

// sendResultStmts returns the statements that send the negative result of a waiting claim now.
func (s *Store) sendResultStmts(tenant, message, conversation string) []sqldb.Statement {
	return []sqldb.Statement{
		{
			Query: `
			update outbox set due_at = ` + s.dialect.Now + `
			where tenant_id = $1 and message_id = $2 and cause = 'reminder' and status = 'queued'`,
			Args: []any{tenant, message},
		},
		s.wakeQueue(gateway.OutboxQueue, tenant, conversation, 0),
	}
}

// dropResultStmt returns the statement that deletes the negative result of a waiting claim.
func dropResultStmt(tenant, message string) sqldb.Statement {
	return sqldb.Statement{
		Query: `delete from outbox where tenant_id = $1 and message_id = $2 and cause = 'reminder' and status = 'queued'`,
		Args:  []any{tenant, message},
	}
}

// checkNoOwnerNeeded returns claim.ErrOwnerConfirmation if an owner of the customer must confirm
// accounts, which is not possible for invites.
func (s *Store) checkNoOwnerNeeded(ctx context.Context, tx sqldb.DB, i claim.Invite) error {
	rs, err := tx.Query(ctx, `select case when `+s.needsOwnerExpr("$2", "$3")+` then 1 else 0 end`,
		i.TenantID, i.CustomerID, i.InstanceID)
	needed, err := sqldb.ScanOne(rs, err, sqldb.ScanValue[int])
	switch {
	case err != nil:
		return fmt.Errorf("look up owners: %w", err)
	case needed == 1:
		return claim.ErrOwnerConfirmation
	}
	return nil
}

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
		select min(cast(c.id as text)), min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text),
			cast(i.id as text), 0
		from identities i
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where i.tenant_id = $1 and i.customer_id = $2 and i.id <> $3 and i.verified_at is not null and i.doubt is null
		group by c.instance_id, i.id order by 6, 5 limit 20`, Args: []any{tenant, customer, except},
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
