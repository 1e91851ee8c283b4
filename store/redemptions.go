package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// inviteCondition returns the condition on invites v that matches the typed code, and its
// arguments.
func (s *Store) inviteCondition(a claim.Attempt) (where string, args []any) {
	args = []any{a.TenantID, a.InstanceID, a.Channel}
	var placeholders []string
	for _, mac := range s.inviteMACs(a.InstanceID, a.Channel, a.Code) {
		args = append(args, mac)
		placeholders = append(placeholders, sqldb.Placeholder(len(args)))
	}
	return `v.tenant_id = $1 and v.instance_id = $2 and v.channel = $3 and v.mac in (` +
		strings.Join(placeholders, ", ") + `)`, args
}

// InviteState implements claim.Store in one round trip, whether or not the code exists.
func (s *Store) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	var st claim.InviteState
	where, args := s.inviteCondition(a)
	err := s.db.Batch(ctx, []sqldb.Statement{
		s.inviteStmt(a, &st),
		s.redeemerStmt(a, &st),
		s.failuresStmt(a, &st.Failures),
		s.throttleNoticeStmt(a, &st.ThrottleNotified),
		s.inviterConversationsStmt(a, &st),
		maskedNameStmt(`invites v`, where, args, &st.MaskedName),
	})
	return st, err
}

// inviteStmt reads the invite with the typed code.
func (s *Store) inviteStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	where, args := s.inviteCondition(a)
	return sqldb.Statement{
		Query: `
		select v.used_msg, case when v.used_msg is not null then 'used' when v.revoked_at is not null then 'revoked'
			when v.refused_at is not null then 'refused'
			when v.expires_at < ` + sqldb.Placeholder(len(args)+1) + ` then 'expired'
			when v.opened_msg is not null then 'pending' else 'live' end,
			case when ` + s.needsOwnerExpr("v.customer_id", "v.instance_id") + ` then 1 else 0 end, ` + s.inviteColumns() + `
		from invites v where ` + where, Args: append(args, a.ReceivedAt),
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var status string
				var needsOwner int
				i, err := scanInvite(func(dest ...any) error {
					return sc(append([]any{sqldb.Text(&st.UsedBy), &status, &needsOwner}, dest...)...)
				})
				st.Invite, st.Status, st.NeedsOwner = i, claim.Status(status), needsOwner == 1
				return struct{}{}, err
			})
			return err
		},
	}
}

// redeemerStmt reads the identities of the sender: one scoped to the instance takes precedence
// over one for all instances.
func (s *Store) redeemerStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select id, instance_id, customer_id, verified_at, role_override, doubt,
			coalesce((select owner_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
			coalesce((select customer_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0)
		from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and (instance_id = $4 or instance_id is null)
		order by (case when instance_id is null then 1 else 0 end)`,
		Args: []any{a.TenantID, a.Channel, a.SenderID, a.InstanceID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var i identity.Identity
				var policy identity.VerificationPolicy
				err := sc(sqldb.Text(&i.ID), sqldb.Text(&i.InstanceID), sqldb.Text(&i.CustomerID), sqldb.Time(&i.VerifiedAt),
					sqldb.Text(&i.RoleOverride), sqldb.Text((*string)(&i.ExpiryReason)),
					&policy.OwnerDays, &policy.CustomerDays)
				if i.InstanceID != "" {
					st.InstanceIdentityID = i.ID
				}
				if st.CustomerID == "" && i.CustomerID != "" {
					st.CustomerID, st.Verified = i.CustomerID, s.hasValidVerification(i, policy)
				}
				return struct{}{}, err
			})
			return err
		},
	}
}

// inviterConversationsStmt reads the direct conversations with the verified identities of the
// invited customer, one for each identity and instance.
func (s *Store) inviterConversationsStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	where, args := s.inviteCondition(a)
	return sqldb.Statement{
		Query: `
		select min(cast(c.id as text)), min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text),
			cast(i.id as text), 0
		from invites v
		join identities i on i.tenant_id = v.tenant_id and i.customer_id = v.customer_id and i.verified_at is not null
			and i.doubt is null
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where ` + where + ` and not (i.channel = v.channel and i.external_id = ` + sqldb.Placeholder(len(args)+1) + `)
		group by c.instance_id, i.id order by 6, 5 limit 20`, Args: append(args, a.SenderID),
		Read: sqldb.ScanInto(&st.LinkedConversations, scanLinkedConversation),
	}
}

// inviteAcceptsExpr returns the condition that the account with the external ID sender does not belong
// to another customer than that of the invite, by the rule of redeemerStmt. If the rules differed, the
// redemption would be granted and rejected again forever. $1 is the tenant.
func inviteAcceptsExpr(sender string) string {
	return `not exists (
		select 1 from identities x
		where x.tenant_id = $1 and x.channel = invites.channel and x.external_id = ` + sender + `
			and x.customer_id <> invites.customer_id
			and (x.instance_id = invites.instance_id or x.instance_id is null and not exists (
				select 1 from identities y
				where y.tenant_id = $1 and y.channel = x.channel and y.external_id = ` + sender + `
					and y.instance_id = invites.instance_id and y.customer_id = invites.customer_id)))`
}

// redemptionStmts returns the statements that redeem or open an invite.
func (s *Store) redemptionStmts(st gateway.Commit) []sqldb.Statement {
	switch d := st.Claim; {
	case d != nil && d.Open != nil:
		return s.openInviteStmts(*d.Open, d.Attempt, st.Lease.ConversationID)
	case d != nil && d.Redeem != nil:
		return s.redeemInviteStmts(*d.Redeem, d.Attempt, st.Lease.ConversationID)
	}
	return nil
}

// openInviteStmts returns the statements that record the account that opened an invite, which staff
// must confirm. They violate a constraint if the invite is no longer live, or if the identity or the
// conversation was deleted.
func (s *Store) openInviteStmts(open claim.Redemption, a claim.Attempt, conversation string) []sqldb.Statement {
	return []sqldb.Statement{
		{Query: `
			update invites set
				fence = case when used_msg is null and revoked_at is null and refused_at is null and opened_msg is null
					and expires_at >= $3 and ` + inviteAcceptsExpr("$5") + ` then fence else -1 end,
				opened_msg = $4, opened_at = $3, opener_id = $6, conversation_id = $7
			where tenant_id = $1 and id = $2`, Args: []any{
			a.TenantID, open.Invite.ID, a.ReceivedAt, a.MessageID, a.SenderID, open.IdentityID, conversation,
		}},
		{
			Query: `
			insert into lanes (conversation_id, kind, tenant_id, wakes)
			select t.id, 'inbox', t.id, -1 from tenants t
			where t.id = $1 and not exists (
				select 1 from invites v
				join identities i on i.tenant_id = v.tenant_id and i.id = v.opener_id
				join conversations c on c.tenant_id = v.tenant_id and c.id = v.conversation_id
				where v.tenant_id = $1 and v.id = $2 and v.opened_msg = $3)`,
			Args: []any{a.TenantID, open.Invite.ID, a.MessageID},
		},
	}
}

// redeemInviteStmts returns the statements that redeem an invite: they link the account to the
// customer and verify it. The update of the invite violates a check constraint if the invite can
// no longer be redeemed or the account belongs to another customer, by the same rule as
// redeemerStmt; if the rules differed, the redemption would be granted and rejected again forever.
// The last statement violates a constraint if the customer, the identity or the conversation was
// deleted.
//
// A live claim code of the account is revoked: its fence would reject a verified identity, and the
// verification may expire before the code does.
func (s *Store) redeemInviteStmts(redemption claim.Redemption, a claim.Attempt, conversation string) []sqldb.Statement {
	now := s.now()
	return []sqldb.Statement{
		// The order of locks is the same everywhere: the customer, its invites, its identities.
		{
			Query: `update customers set updated_at = updated_at where tenant_id = $1 and id = $2`,
			Args:  []any{a.TenantID, redemption.Invite.CustomerID},
		},
		{Query: `
			update invites set
				fence = case when used_msg is null and revoked_at is null and refused_at is null and expires_at >= $3
					and (opened_msg = $4 or opened_msg is null and not confirm)
					and ` + inviteAcceptsExpr("$5") + `
					and not ` + s.needsOwnerExpr("invites.customer_id", "invites.instance_id") + ` then fence else -1 end,
				used_msg = $4, used_at = $6, identity_id = $7
			where tenant_id = $1 and id = $2`, Args: []any{
			a.TenantID, redemption.Invite.ID, a.ReceivedAt, a.MessageID, a.SenderID, now, redemption.IdentityID,
		}},
		{
			Query: `
			update identities set customer_id = $3, role_override = ` + grantedRoleExpr("identities", "$4") + `,
				verified_at = $5, unlink_asked_at = null, updated_at = $5, last_heard_at = $5,
				claim_revoked_at = coalesce(claim_revoked_at, $5), ` + clearExpirySQL + `
			where tenant_id = $1 and id = $2 and channel = $6 and external_id = $7 and instance_id = $8
				and (customer_id is null or customer_id = $3)
				and exists (select 1 from invites where tenant_id = $1 and id = $9 and customer_id = $3 and used_msg = $10)`,
			Args: []any{
				a.TenantID, redemption.IdentityID, redemption.Invite.CustomerID,
				sqldb.TextOrNull(redemption.Invite.RoleOverride), now, a.Channel, a.SenderID, a.InstanceID, redemption.Invite.ID,
				a.MessageID,
			},
		},
		{
			Query: `
			insert into lanes (conversation_id, kind, tenant_id, wakes)
			select t.id, 'inbox', t.id, -1 from tenants t
			where t.id = $1 and not exists (
				select 1 from invites v
				join identities i on i.tenant_id = v.tenant_id and i.id = v.identity_id and i.customer_id = v.customer_id
				join conversations c on c.tenant_id = v.tenant_id and c.id = $4
				where v.tenant_id = $1 and v.id = $2 and v.used_msg = $3 and i.verified_at is not null)`,
			Args: []any{a.TenantID, redemption.Invite.ID, a.MessageID, conversation},
		},
	}
}

// ExposureState implements claim.ExposureStore in one round trip.
func (s *Store) ExposureState(ctx context.Context, a claim.Attempt, letters []string) (claim.ExposureState, error) {
	var st claim.ExposureState
	stmts := []sqldb.Statement{s.missesStmt(a, &st)}
	if len(letters) > 0 {
		stmts = append(stmts, s.exposedInvitesStmt(a, letters, &st))
	}
	if err := s.db.Batch(ctx, stmts); err != nil {
		return claim.ExposureState{}, fmt.Errorf("read exposure state: %w", err)
	}
	return st, nil
}

// missesStmt counts the messages of the sender in the last hour that contained letters which could be a
// code, without the current message.
func (s *Store) missesStmt(a claim.Attempt, st *claim.ExposureState) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		select count(*), coalesce(sum(case when kind = $5 then 1 else 0 end), 0) from claim_failures
		where tenant_id = $1 and channel = $2 and sender_id = $3 and message_id <> $4 and kind <> $6 and at > ` +
			s.dialect.NowPlus(-60*60),
		Args: []any{a.TenantID, a.Channel, a.SenderID, a.MessageID, string(claim.BareMiss), failedAttempt},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanOne(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				return struct{}{}, sc(&st.Misses, &st.BareMisses)
			})
			return err
		},
	}
}

// exposedInvitesStmt reads the invites among letters that were live at the instance, on any channel, when
// the message was received.
func (s *Store) exposedInvitesStmt(a claim.Attempt, letters []string, st *claim.ExposureState) sqldb.Statement {
	byMAC := map[string]string{}
	args := []any{a.TenantID, a.InstanceID, a.ReceivedAt}
	var placeholders []string
	add := func(mac any) {
		args = append(args, mac)
		placeholders = append(placeholders, sqldb.Placeholder(len(args)))
	}
	for _, code := range letters {
		for _, channel := range adapters.Channels() {
			for _, mac := range s.inviteMACs(a.InstanceID, string(channel), code) {
				byMAC[mac] = code
				add(mac)
			}
		}
	}
	last := args[len(args)-1]
	for n := len(placeholders); n&(n-1) != 0; n++ { // a power of two, so that few statements are prepared
		add(last)
	}
	return sqldb.Statement{
		Query: `
		select v.mac, ` + s.inviteColumns() + ` from invites v
		where v.tenant_id = $1 and v.instance_id = $2 and v.used_msg is null and v.opened_msg is null
			and v.revoked_at is null
			and v.expires_at >= $3 and v.mac in (` + strings.Join(placeholders, ", ") + `)`, Args: args,
		Read: func(rs sqldb.Rows) error {
			st.Invites = map[string]claim.Invite{}
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var mac string
				i, err := scanInvite(func(dest ...any) error { return sc(append([]any{&mac}, dest...)...) })
				st.Invites[byMAC[mac]] = i
				return struct{}{}, err
			})
			return err
		},
	}
}

// liveCodeExpr returns the condition that a code could be redeemed at the instance of a message, on any
// channel, when it was received.
func liveCodeExpr(message string) string {
	live := func(instance string) string {
		return `exists (
			select 1 from identities l
			where l.tenant_id = ` + message + `.tenant_id and l.instance_id ` + instance + `
				and l.claim_expires_at >= ` + message + `.received_at and l.claim_expires_at is not null
				and l.claim_used_msg is null and l.claim_revoked_at is null)`
	}
	return `(` + live(`= `+message+`.instance_id`) + ` or ` + live(`is null`) + `)`
}

// liveInviteExpr returns the condition that an invite could be redeemed at the instance of a message, on any
// channel, when it was received.
func liveInviteExpr(message string) string {
	return `exists (
			select 1 from invites l
			where l.tenant_id = ` + message + `.tenant_id and l.instance_id = ` + message + `.instance_id
				and l.expires_at >= ` + message + `.received_at and l.used_msg is null and l.revoked_at is null)`
}
