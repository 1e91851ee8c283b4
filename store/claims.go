package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// Limits on issued codes. They protect people from a flood of codes and limit the damage of a
// stolen staff key.
const (
	maxIssuedPer15Min = 5  // codes for one identity, or invites for one customer
	maxIssuedPerDay   = 20 // codes for one identity, or invites for one customer
	maxIssuedPerHour  = 60 // by one actor
)

// Kinds of events that record issued codes and invites.
const (
	codeEventKinds   = `'claim.issued', 'claim.reissued'`
	inviteEventKinds = `'invite.issued'`
)

// selfServiceWindow is the time after linking an account in which a claim with a code of the same
// person is recorded.
const selfServiceWindow = time.Hour

// An issueScope selects the issued codes that are counted: those with an event of the given kinds
// whose column has the value id.
type issueScope struct{ column, id, kinds string }

// IssueCode implements claim.Store. It invalidates the previous code of the identity and starts a
// new one; if the verification of the identity is no longer valid, it withdraws it. The row is
// locked first, so that the last of several concurrent calls determines the live code.
//
// IssueCode returns identity.ErrNotFound if the customer has no such identity,
// identity.ErrAlreadyVerified if its verification is valid, and a *claim.TooManyCodesError if a
// limit is reached. Nothing changes if it returns an error.
func (s *Store) IssueCode(
	ctx context.Context, k identity.Key, by identity.Actor,
) (target claim.Target, expires time.Time, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		target, expires, err = s.issueCodeTx(ctx, tx, k.TenantID, k.CustomerID, k.IdentityID, by)
		return err
	})
	return target, expires, err
}

// issueCodeTx implements IssueCode in a transaction.
func (s *Store) issueCodeTx(
	ctx context.Context, tx sqldb.DB, tenant, customer, id string, by identity.Actor,
) (claim.Target, time.Time, error) {
	target := claim.Target{TenantID: tenant, IdentityID: id}
	var expires time.Time
	owner := identity.Identity{ID: id, TenantID: tenant, CustomerID: customer}
	rs, err := tx.Query(ctx, `
		update identities set claim_gen = claim_gen + 1,
			claim_expires_at = `+s.dialect.NowPlus(int(claim.CodeTTL/time.Second))+`,
			claim_used_msg = null, claim_revoked_at = null, claim_key = $4
		where tenant_id = $1 and customer_id = $2 and id = $3
		returning instance_id, channel, external_id, claim_gen, claim_expires_at, verified_at, role_override, doubt`,
		tenant, customer, id, s.keys.IDs()[0])
	_, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		return struct{}{}, sc(sqldb.Text(&target.InstanceID), &target.Channel, &target.ExternalID, &target.Gen,
			sqldb.Time(&expires), sqldb.Time(&owner.VerifiedAt), sqldb.Text(&owner.RoleOverride),
			sqldb.Text((*string)(&owner.ExpiryReason)))
	})
	owner.InstanceID, owner.Channel = target.InstanceID, target.Channel
	switch {
	case sqldb.IsNoRows(err):
		return target, expires, identity.ErrNotFound
	case err != nil:
		return target, expires, fmt.Errorf("issue code: %w", err)
	case owner.IsVerified():
		if err := s.withdrawVerification(ctx, tx, owner, by); err != nil {
			return target, expires, err
		}
	}
	if err := s.checkIssueLimits(ctx, tx, tenant, issueScope{"identity_id", id, codeEventKinds}, by); err != nil {
		return target, expires, err
	}
	kind := "claim.issued"
	if target.Gen > 1 {
		kind = "claim.reissued"
	}
	e := auditStmt(identity.Event{
		TenantID: tenant, Kind: kind, Actor: by, CustomerID: customer, IdentityID: id, InstanceID: target.InstanceID,
		Detail: map[string]string{"channel": target.Channel, "generation": fmt.Sprint(target.Gen)},
	})
	_, err = tx.Exec(ctx, e.Query, e.Args...)
	return target, expires, err
}

// revokeCodes revokes the live codes of the identities that match where and records the reason.
func (s *Store) revokeCodes(
	ctx context.Context, tx sqldb.DB, by identity.Actor, reason, where string, args ...any,
) error {
	rs, err := tx.Query(ctx, `
		update identities set claim_revoked_at = `+s.dialect.Now+`
		where `+where+` and claim_used_msg is null and claim_revoked_at is null and claim_expires_at >= `+s.dialect.Now+`
		returning `+identityColumns, args...)
	revoked, err := sqldb.ScanAll(rs, err, scanIdentity)
	if err != nil {
		return fmt.Errorf("revoke codes: %w", err)
	}
	var events []identity.Event
	for _, i := range revoked {
		events = append(events, identityEvent(i, "claim.revoked", by, map[string]string{"reason": reason}))
	}
	return recordEvents(ctx, tx, events...)
}

// checkIssueLimits returns a *claim.TooManyCodesError if a limit for the recipient or the actor is
// reached.
func (s *Store) checkIssueLimits(
	ctx context.Context, tx sqldb.DB, tenant string, to issueScope, by identity.Actor,
) error {
	// Codes of one actor are issued one after another, so that each count includes the codes
	// issued concurrently.
	if s.dialect.AdvisoryLock != "" {
		if _, err := tx.Exec(ctx, s.dialect.AdvisoryLock, tenant+"\x1f"+string(by)); err != nil {
			return fmt.Errorf("lock issuing of codes: %w", err)
		}
	}
	for _, l := range []struct {
		issueScope
		window time.Duration
		limit  int
	}{
		{to, 15 * time.Minute, maxIssuedPer15Min},
		{to, 24 * time.Hour, maxIssuedPerDay},
		{issueScope{"actor", string(by), codeEventKinds + `, ` + inviteEventKinds}, time.Hour, maxIssuedPerHour},
	} {
		var n int
		var oldest time.Time
		rs, err := tx.Query(ctx, `
			select count(*), min(at) from audit_events
			where tenant_id = $1 and `+l.column+` = $2 and kind in (`+l.kinds+`)
				and at > `+s.dialect.NowPlus(-int(l.window/time.Second)), tenant, l.id)
		if _, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
			return struct{}{},
				sc(&n, sqldb.Time(&oldest))
		}); err != nil {
			return fmt.Errorf("count codes issued: %w", err)
		}
		if n >= l.limit {
			return &claim.TooManyCodesError{RetryAfter: max(time.Second, time.Until(oldest.Add(l.window)).Round(time.Second))}
		}
	}
	return nil
}

// CodeState implements claim.Store in one round trip. It returns a *keyring.MissingKeyError if the
// code is still redeemable but the ring does not have the master key with which it was hashed:
// every code would be reported as wrong.
func (s *Store) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	st := claim.CodeState{Target: claim.Target{
		TenantID: a.TenantID, IdentityID: a.IdentityID, Channel: a.Channel,
		ExternalID: a.SenderID,
	}, Status: claim.NoCode}
	var key string
	err := s.db.Batch(ctx, []sqldb.Statement{
		{
			Query: `
			select instance_id, customer_id, claim_gen, claim_expires_at, claim_used_msg, verified_at, role_override, doubt,
				coalesce((select owner_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
				coalesce((select customer_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
				case when ` + redeemableCodeExpr(s.dialect) + ` then claim_key end,
				case when ` + s.needsOwnerExpr("identities.customer_id", "$4") + ` then 1 else 0 end,
				case when exists (
					select 1 from claim_requests r
					where r.tenant_id = $1 and r.identity_id = identities.id and r.claim_gen = identities.claim_gen
						and r.answered_at is null and r.expires_at >= $3) and verified_at is null then 1 else 0 end,
				case when claim_expires_at is null then 'no_code' when claim_used_msg is not null then 'used'
					when claim_revoked_at is not null then 'revoked'
					when claim_expires_at < $3 then 'expired' else 'live' end
			from identities where tenant_id = $1 and id = $2`, Args: []any{a.TenantID, a.IdentityID, a.ReceivedAt, a.InstanceID},
			Read: func(rs sqldb.Rows) error {
				_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
					var owner identity.Identity
					var f identity.VerificationPolicy
					var status string
					var needsOwner, awaitsOwner int
					err := sc(sqldb.Text(&st.Target.InstanceID), sqldb.Text(&st.CustomerID), &st.Target.Gen,
						sqldb.Time(&st.ExpiresAt), sqldb.Text(&st.UsedBy), sqldb.Time(&owner.VerifiedAt), sqldb.Text(&owner.RoleOverride),
						sqldb.Text((*string)(&owner.ExpiryReason)), &f.OwnerDays, &f.CustomerDays, sqldb.Text(&key),
						&needsOwner, &awaitsOwner, &status)
					st.NeedsOwner, st.AwaitsOwner = needsOwner == 1, awaitsOwner == 1
					owner.CustomerID = st.CustomerID
					st.Verified, st.Status = s.hasValidVerification(owner, f), claim.Status(status)
					return struct{}{}, err
				})
				return err
			},
		},
		s.failuresStmt(a, &st.Failures),
		s.throttleNoticeStmt(a, &st.ThrottleNotified),
		s.linkedConversationsStmt(a.TenantID, a.IdentityID, &st.LinkedConversations),
		maskedNameStmt(`identities v`, `v.tenant_id = $1 and v.id = $2`, []any{a.TenantID, a.IdentityID}, &st.MaskedName),
	})
	if err != nil {
		return st, err
	}
	if _, _, ok := s.keys.Find(key); key != "" && !ok {
		return st, &keyring.MissingKeyError{ID: key}
	}
	return st, nil
}

// maskedNameStmt reads the masked name of the customer to whom a row v of a table belongs.
func maskedNameStmt(from, where string, args []any, name *string) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select c.first_name, c.last_name, c.company_name
		from ` + from + ` join customers c on c.tenant_id = v.tenant_id and c.id = v.customer_id
		where ` + where, Args: args,
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var c identity.Customer
				err := sc(sqldb.Text(&c.FirstName), sqldb.Text(&c.LastName), sqldb.Text(&c.CompanyName))
				*name = c.MaskedName()
				return struct{}{}, err
			})
			return err
		},
	}
}

// throttleNoticeStmt reads whether the sender was notified of the throttling within the last 15
// minutes.
func (s *Store) throttleNoticeStmt(a claim.Attempt, notified *bool) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select count(*) from audit_events
		where tenant_id = $1 and identity_id = $2 and kind = 'claim.throttled' and at > ` + s.dialect.NowPlus(-15*60),
		Args: []any{a.TenantID, a.IdentityID},
		Read: func(rs sqldb.Rows) error {
			n, err := sqldb.ScanOne(rs, nil, sqldb.ScanValue[int])
			*notified = n > 0
			return err
		},
	}
}

// redeemableCodeExpr returns the condition that the last code of an identity can still be
// redeemed, including the grace period for delayed messages.
func redeemableCodeExpr(d sqldb.Dialect) string {
	return `claim_used_msg is null and claim_revoked_at is null and claim_expires_at > ` +
		d.NowPlus(-int(claim.CodeGracePeriod/time.Second))
}

// failuresStmt counts the failed attempts of the sender in all instances of the tenant, without the
// current message.
func (s *Store) failuresStmt(a claim.Attempt, count *claim.Failures) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select at, ` + s.dialect.Now + ` from claim_failures
		where tenant_id = $1 and channel = $2 and sender_id = $3 and message_id <> $4 and kind = $5 and at > ` +
			s.dialect.NowPlus(-24*60*60) + `
		order by at desc limit 100`, Args: []any{a.TenantID, a.Channel, a.SenderID, a.MessageID, failedAttempt},
		Read: func(rs sqldb.Rows) error {
			var now time.Time
			times, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (at time.Time, err error) {
				err = sc(sqldb.Time(&at), sqldb.Time(&now))
				return at, err
			})
			*count = countFailures(times, now)
			return err
		},
	}
}

// failedAttempt is the kind of a counted message that was an attempt. The others are those of
// claim.Miss.
const failedAttempt = "failure"

// failureKind returns the kind under which the message of a decision is counted, or "".
func failureKind(d claim.Decision) string {
	if d.CountsAsFailure {
		return failedAttempt
	}
	return string(d.Miss)
}

// countFailures counts failures at the given times, newest first, as of now.
func countFailures(times []time.Time, now time.Time) claim.Failures {
	f := claim.Failures{Day: len(times)}
	for _, at := range times {
		if at.After(now.Add(-15 * time.Minute)) {
			f.QuarterHour++
		}
		if at.After(now.Add(-time.Hour)) {
			f.Hour++
		}
	}
	if f.QuarterHour >= claim.MaxFailuresPerQuarterHour {
		f.RetryAfter = times[claim.MaxFailuresPerQuarterHour-1].Add(15 * time.Minute).Sub(now)
	}
	if f.Day >= claim.MaxFailuresPerDay {
		f.RetryAfter = max(f.RetryAfter, times[claim.MaxFailuresPerDay-1].Add(24*time.Hour).Sub(now))
	}
	return f
}

// LinkedConversations implements process.MessageStore.
func (s *Store) LinkedConversations(
	ctx context.Context, tenant, identityID string,
) (conversations []claim.LinkedConversation, err error) {
	err = s.db.Batch(ctx, []sqldb.Statement{s.linkedConversationsStmt(tenant, identityID, &conversations)})
	if err != nil {
		return nil, fmt.Errorf("look up linked conversations: %w", err)
	}
	return conversations, nil
}

// linkedConversationsStmt reads the direct conversations with the other verified identities of the
// customer of an identity, one for each identity and instance.
func (s *Store) linkedConversationsStmt(
	tenant, identityID string, conversations *[]claim.LinkedConversation,
) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select min(cast(c.id as text)), min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text),
			cast(i.id as text),
			max(case when ` + s.isOwnerExpr("i", "c.instance_id") + ` then 1 else 0 end)
		from identities me
		join identities i on i.tenant_id = me.tenant_id and i.customer_id = me.customer_id and i.id <> me.id
			and i.verified_at is not null and i.doubt is null
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where me.tenant_id = $1 and me.id = $2
		group by c.instance_id, i.id order by 6, 5 limit 20`, Args: []any{tenant, identityID},
		Read: sqldb.ScanInto(conversations, scanLinkedConversation),
	}
}

func scanLinkedConversation(sc sqldb.ScanFunc) (o claim.LinkedConversation, err error) {
	var id string
	var owner int
	err = sc(&o.ConversationID, &o.ChatID, &o.Recipient, &o.Channel, &o.InstanceID, &id, &owner)
	o.Owner = owner == 1
	return o, err
}

// grantedRoleExpr returns the expression for the role override that a claim or an invite grants to an
// identity: role, or null for an owner on a channel that the instance excludes. If the identity is
// valid for all instances, none of them may exclude the channel.
func grantedRoleExpr(identities, role string) string {
	return `case when ` + role + ` = '` + identity.RoleOwner + `' and exists (
		select 1 from instances n
		where n.tenant_id = ` + identities + `.tenant_id and n.id = coalesce(` + identities + `.instance_id, n.id)
			and n.owner_channels not like '%,' || ` + identities + `.channel || ',%') then null else ` + role + ` end`
}

// selfServiceStmt records an event if the person who linked an account to the customer within the
// hour before it was claimed also issued the code. Staff who claim an account of their own for a
// customer leave this trace; so does one person who serves a caller.
func selfServiceStmt(a claim.Attempt, identityID string) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail)
		select $3, l.tenant_id, 'claim.self_service_suspected', l.actor, i.customer_id, i.id, $4, $5, $6
		from audit_events l
		join identities i on i.tenant_id = l.tenant_id and i.id = l.identity_id
		where l.seq = (
			select max(x.seq) from audit_events x
			where x.tenant_id = $1 and x.identity_id = $2 and x.at > $7
				and x.kind in ('identity.linked', 'identity.adopted', 'identity.moved')
				and x.actor = (
					select c.actor from audit_events c
					where c.tenant_id = $1 and c.identity_id = $2 and c.kind in (` + codeEventKinds + `)
					order by c.seq desc limit 1))`,
		Args: []any{
			a.TenantID, identityID, newID(), a.InstanceID, a.MessageID,
			encodeDetail(map[string]string{"channel": a.Channel}), a.ReceivedAt.Add(-selfServiceWindow),
		},
	}
}

// claimStmts returns the statements that store a decision. The update for a grant violates a check
// constraint, which rolls back the batch, if the code can no longer be redeemed.
func (s *Store) claimStmts(st gateway.Commit) []sqldb.Statement {
	d := st.Claim
	if d == nil {
		return nil
	}
	var stmts []sqldb.Statement
	a, now := d.Attempt, s.now()
	stmts = append(stmts, s.askStmts(d.Ask, a, st.Lease)...)
	stmts = append(stmts, s.answerStmts(d.Answer, a, st.Lease)...)
	if g := d.Grant; g != nil {
		stmts = append(stmts, sqldb.Statement{Query: `
			update identities set
				claim_gen = case when claim_gen = $3 and customer_id is not null and verified_at is null and claim_used_msg is null
					and claim_revoked_at is null and claim_expires_at >= $4
					and not ` + s.needsOwnerExpr("identities.customer_id", "$8") + ` then claim_gen else -1 end,
				claim_used_msg = $5, verified_at = $6, role_override = ` + grantedRoleExpr("identities", "$7") + `,
					unlink_asked_at = null, updated_at = $6, last_heard_at = $6, ` + clearExpirySQL + `
			where tenant_id = $1 and id = $2`, Args: []any{
			a.TenantID, g.IdentityID, g.Gen, a.ReceivedAt, a.MessageID, now,
			identity.RoleOwner, a.InstanceID,
		}},
			selfServiceStmt(a, g.IdentityID),
			// If the identity was removed, no row of identities can violate a constraint.
			sqldb.Statement{
				Query: `
				update lanes set wakes = -1
				where tenant_id = $1 and conversation_id = $2 and kind = $3
					and not exists (select 1 from identities where tenant_id = $1 and id = $4)`,
				Args: []any{a.TenantID, st.Lease.ConversationID, string(st.Lease.Kind), g.IdentityID},
			})
	}
	for _, b := range d.Revoke {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			update identities set claim_revoked_at = $4
			where tenant_id = $1 and id = $2 and claim_gen = $3 and claim_used_msg is null and claim_revoked_at is null`,
			Args: []any{a.TenantID, b.IdentityID, b.Gen, now},
		})
	}
	for _, i := range d.RevokeInvites {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			update invites set revoked_at = $3
			where tenant_id = $1 and id = $2 and used_msg is null and opened_msg is null and revoked_at is null`,
			Args: []any{a.TenantID, i.ID, now},
		})
	}
	if kind := failureKind(*d); kind != "" {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			insert into claim_failures (tenant_id, instance_id, channel, sender_id, message_id, kind)
			values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
			Args: []any{a.TenantID, a.InstanceID, a.Channel, a.SenderID, a.MessageID, kind},
		})
	}
	for _, e := range d.Events {
		stmts = append(stmts, auditOwnerStmt(e))
	}
	return stmts
}
