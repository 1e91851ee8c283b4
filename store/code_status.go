package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// CodeStatus returns the state of the last claim code of an identity. If instance is not empty, only
// that instance, and the identities of the customer that are valid there, are considered. It returns
// identity.ErrNotFound if the customer has no such identity.
func (s *Store) CodeStatus(ctx context.Context, k identity.Key, instance string) (claim.CodeStatus, error) {
	i, err := s.Identity(ctx, k)
	if err != nil {
		return claim.CodeStatus{}, err
	}
	st := claim.CodeStatus{Identity: i}
	policy, err := s.verificationPolicy(ctx, s.db, i)
	if err != nil {
		return st, err
	}
	st.VerificationExpired = i.ExpiryReason != "" || i.IsVerified() && !s.hasValidVerification(i, policy)
	var events []identity.Event
	err = s.db.Batch(ctx, []sqldb.Statement{
		s.lastCodeStmt(k, &st),
		s.codeEventsStmt(k, &events),
		lastClaimEventStmt(k, &st.LastEvent),
		statusCustomerStmt(k, &st.Customer),
		s.seenStmt(k, i, &st),
		s.linkedAgoStmt(k, &st.LinkedAgo),
		otherVerifiedStmt(k, instance, &st.OtherVerified),
	})
	if err != nil {
		return st, fmt.Errorf("read status of claim code: %w", err)
	}
	applyCodeEvents(&st, events)
	if i.LastSeenAt.After(st.LastSeenAt) && !st.FirstSeenAt.IsZero() {
		st.LastSeenAt = i.LastSeenAt
	}
	st.Bot, err = s.claimBot(ctx, i, instance)
	return st, err
}

// lastCodeStmt reads the state of the last code from the identity.
func (s *Store) lastCodeStmt(k identity.Key, st *claim.CodeStatus) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select claim_expires_at, ` + s.dialect.SecondsUntil("claim_expires_at") + `,
			case when claim_gen = 0 or claim_expires_at is null and claim_revoked_at is null then 'none'
				when claim_used_msg is not null then 'redeemed' when claim_revoked_at is not null then 'revoked'
				when claim_expires_at < ` + s.dialect.Now + ` then 'expired' else 'live' end
		from identities where tenant_id = $1 and id = $2`, Args: []any{k.TenantID, k.IdentityID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				return struct{}{}, sc(sqldb.Time(&st.ExpiresAt), sqldb.Seconds(&st.ExpiresIn), sqldb.Text((*string)(&st.State)))
			})
			return err
		},
	}
}

// codeEventsStmt reads the event of the last issue of a code and the failures after it, oldest first.
func (s *Store) codeEventsStmt(k identity.Key, events *[]identity.Event) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select ` + eventColumns + ` from audit_events
		where tenant_id = $1 and identity_id = $2 and kind in (` + codeEventKinds + `, 'claim.failed', 'claim.locked')
			and seq >= (select max(seq) from audit_events
				where tenant_id = $1 and identity_id = $2 and kind in (` + codeEventKinds + `))
		order by seq limit 100`, Args: []any{k.TenantID, k.IdentityID},
		Read: sqldb.ScanInto(events, scanEvent),
	}
}

// applyCodeEvents sets what the status takes from the audit log.
func applyCodeEvents(st *claim.CodeStatus, events []identity.Event) {
	for n, e := range events {
		switch {
		case n == 0:
			st.IssuedAt, st.IssuedBy = e.At, e.Actor
		case e.Kind == "claim.locked" && st.State == claim.StateRevoked:
			st.State = claim.StateLocked
		case e.Kind == "claim.failed" && e.Detail["reason"] == "wrong":
			st.WrongTries++
		}
	}
	if st.State != claim.StateLive {
		st.ExpiresIn = 0
	}
}

// lastClaimEventStmt reads the newest event about claims of an identity.
func lastClaimEventStmt(k identity.Key, last *identity.Event) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select ` + eventColumns + ` from audit_events
		where tenant_id = $1 and identity_id = $2 and kind like 'claim.%'
		order by seq desc limit 1`, Args: []any{k.TenantID, k.IdentityID},
		Read: func(rs sqldb.Rows) error {
			events, err := sqldb.ScanAll(rs, nil, scanEvent)
			if len(events) > 0 {
				*last = events[0]
			}
			return err
		},
	}
}

// statusCustomerStmt reads the names and the e-mail address of a customer.
func statusCustomerStmt(k identity.Key, c *identity.Customer) sqldb.Statement {
	return sqldb.Statement{
		Query: `select first_name, last_name, company_name, email from customers where tenant_id = $1 and id = $2`,
		Args:  []any{k.TenantID, k.CustomerID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				return struct{}{}, sc(sqldb.Text(&c.FirstName), sqldb.Text(&c.LastName), sqldb.Text(&c.CompanyName),
					sqldb.Text(&c.Email))
			})
			return err
		},
	}
}

// seenStmt reads when the account first and last wrote to a bot in a direct conversation.
func (s *Store) seenStmt(k identity.Key, i identity.Identity, st *claim.CodeStatus) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select min(created_at), max(coalesce(last_at, created_at)) from (
			select c.created_at, (
				select m.received_at from messages m
				where m.tenant_id = c.tenant_id and m.conversation_id = c.id and m.sender_id = $3
				order by m.seq desc limit 1) as last_at
			from conversations c where c.tenant_id = $1 and c.identity_id = $2 and not c.is_group) seen`,
		Args: []any{k.TenantID, k.IdentityID, i.ExternalID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				return struct{}{}, sc(sqldb.Time(&st.FirstSeenAt), sqldb.Time(&st.LastSeenAt))
			})
			return err
		},
	}
}

// linkedAgoStmt reads how long ago an identity was linked.
func (s *Store) linkedAgoStmt(k identity.Key, ago *time.Duration) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select -(` + s.dialect.SecondsUntil("max(at)") + `) from audit_events
		where tenant_id = $1 and identity_id = $2 and kind in ('identity.linked', 'identity.adopted')`,
		Args: []any{k.TenantID, k.IdentityID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				return struct{}{}, sc(sqldb.Seconds(ago))
			})
			return err
		},
	}
}

// otherVerifiedStmt reads whether the customer has another verified identity, in an instance if one
// is given.
func otherVerifiedStmt(k identity.Key, instance string, found *bool) sqldb.Statement {
	where, args := ``, []any{k.TenantID, k.CustomerID, k.IdentityID}
	if instance != "" {
		where, args = ` and (instance_id is null or instance_id = $4)`, append(args, instance)
	}
	return sqldb.Statement{
		Query: `
		select count(*) from identities
		where tenant_id = $1 and customer_id = $2 and id <> $3 and verified_at is not null and doubt is null` + where,
		Args: args,
		Read: func(rs sqldb.Rows) error {
			n, err := sqldb.ScanOne(rs, nil, sqldb.ScanValue[int])
			*found = n > 0
			return err
		},
	}
}

// ClaimBot returns the bot to which a code of an identity should be sent. See claimBot.
func (s *Store) ClaimBot(ctx context.Context, k identity.Key) (claim.Bot, error) {
	i, err := s.Identity(ctx, k)
	if err != nil {
		return claim.Bot{}, err
	}
	return s.claimBot(ctx, i, "")
}

// claimBot returns one bot at which a code of an identity can be redeemed: a connected one, if
// possible one to which the account has written before. The bot is that of the instance of the
// identity, or of the given instance. It is zero if there is no instance.
func (s *Store) claimBot(ctx context.Context, i identity.Identity, instance string) (claim.Bot, error) {
	if i.InstanceID != "" {
		instance = i.InstanceID
	}
	where, args := ``, []any{i.TenantID, i.Channel, i.ID}
	if instance != "" {
		where, args = ` and n.id = $4`, append(args, instance)
	}
	rs, err := s.db.Query(ctx, `
		select n.id, n.name, case when e.id is null then 0 else 1 end, case when e.status = 'active' then 1 else 0 end
		from instances n
		left join endpoints e on e.tenant_id = n.tenant_id and e.instance_id = n.id and e.channel = $2
		where n.tenant_id = $1`+where+`
		order by case when e.status = 'active' then 0 when e.id is not null then 1 else 2 end,
			case when exists (
				select 1 from conversations c
				where c.tenant_id = $1 and c.identity_id = $3 and c.instance_id = n.id and not c.is_group) then 0 else 1 end,
			n.created_at, n.id limit 1`, args...)
	bots, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (b claim.Bot, err error) {
		var configured, connected int
		err = sc(&b.InstanceID, &b.InstanceName, &configured, &connected)
		b.Configured, b.Connected = configured == 1, connected == 1
		return b, err
	})
	if err != nil {
		return claim.Bot{}, fmt.Errorf("look up bot for claim code: %w", err)
	}
	if len(bots) == 0 {
		return claim.Bot{}, nil
	}
	return bots[0], nil
}

// RevokeCode revokes the claim code of an identity, if it is live, and returns its target. It returns
// identity.ErrNotFound if the customer has no such identity.
func (s *Store) RevokeCode(ctx context.Context, k identity.Key, by identity.Actor) (target claim.Target, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			select instance_id, channel, external_id, claim_gen from identities
			where tenant_id = $1 and customer_id = $2 and id = $3`, k.TenantID, k.CustomerID, k.IdentityID)
		target, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (t claim.Target, err error) {
			t = claim.Target{TenantID: k.TenantID, IdentityID: k.IdentityID}
			err = sc(sqldb.Text(&t.InstanceID), &t.Channel, &t.ExternalID, &t.Gen)
			return t, err
		})
		if err != nil {
			return err
		}
		return s.revokeCodes(ctx, tx, by, "ended_by_staff", `tenant_id = $1 and customer_id = $2 and id = $3`,
			k.TenantID, k.CustomerID, k.IdentityID)
	})
	if err != nil {
		return claim.Target{}, s.identityError("revoke claim code", err)
	}
	return target, nil
}
