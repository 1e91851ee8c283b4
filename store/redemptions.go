package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// inviteCondition finds the invite whose letters were typed, in a statement whose args are
// these.
func (s *Store) inviteCondition(a claim.Attempt) (where string, args []any) {
	args = []any{a.TenantID, a.InstanceID, a.Channel}
	var places []string
	for _, mac := range s.inviteMACs(a.InstanceID, a.Channel, a.Code) {
		args = append(args, mac)
		places = append(places, sqldb.Placeholder(len(args)))
	}
	return `v.tenant_id = $1 and v.instance_id = $2 and v.channel = $3 and v.mac in (` + strings.Join(places, ", ") + `)`, args
}

// InviteExists implements claim.Invites.
func (s *Store) InviteExists(ctx context.Context, a claim.Attempt) (bool, error) {
	where, args := s.inviteCondition(a)
	rs, err := s.db.Query(ctx, `
		select v.id from invites v
		where `+where, args...)
	found, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		return false, fmt.Errorf("look for invite: %w", err)
	}
	return len(found) > 0, nil
}

// InviteState implements claim.Invites, in one round trip whatever it finds.
func (s *Store) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	var st claim.InviteState
	err := s.db.Batch(ctx, []sqldb.Statement{
		s.inviteStmt(a, &st),
		s.redeemerStmt(a, &st),
		s.failuresStmt(a, &st.Failures),
		s.throttleNoticeStmt(a, &st.ThrottleNotified),
		s.inviterConversationsStmt(a, &st),
	})
	return st, err
}

func (s *Store) inviteStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	where, args := s.inviteCondition(a)
	return sqldb.Statement{Query: `
		select v.used_msg, case when v.used_msg is not null then 'used' when v.revoked_at is not null then 'revoked'
			when v.expires_at < ` + sqldb.Placeholder(len(args)+1) + ` then 'expired' else 'live' end, ` + s.inviteColumns() + `
		from invites v where ` + where, Args: append(args, a.ReceivedAt),
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var fence string
				i, err := scanInvite(func(dest ...any) error { return sc(append([]any{sqldb.Text(&st.UsedBy), &fence}, dest...)...) })
				st.Invite, st.Status = i, claim.Status(fence)
				return struct{}{}, err
			})
			return err
		}}
}

// redeemerStmt reads whose account it is that the invite would be opened with: as
// everywhere, that of the instance before that of all instances.
func (s *Store) redeemerStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	return sqldb.Statement{Query: `
		select id, instance_id, customer_id, verified_at, role_override, doubt,
			coalesce((select owner_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
			coalesce((select customer_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0)
		from identities
		where tenant_id = $1 and channel = $2 and external_id = $3 and (instance_id = $4 or instance_id is null)
		order by (case when instance_id is null then 1 else 0 end)`, Args: []any{a.TenantID, a.Channel, a.SenderID, a.InstanceID},
		Read: func(rs sqldb.Rows) error {
			_, err := sqldb.ScanAll(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
				var who identity.Identity
				var f identity.VerificationPolicy
				err := sc(sqldb.Text(&who.ID), sqldb.Text(&who.InstanceID), sqldb.Text(&who.CustomerID), sqldb.Time(&who.VerifiedAt), sqldb.Text(&who.RoleOverride), sqldb.Text((*string)(&who.ExpiryReason)),
					&f.OwnerDays, &f.CustomerDays)
				if who.InstanceID != "" {
					st.InstanceIdentityID = who.ID
				}
				if st.CustomerID == "" && who.CustomerID != "" {
					st.CustomerID, st.Verified = who.CustomerID, s.hasValidVerification(who, f)
				}
				return struct{}{}, err
			})
			return err
		}}
}

// inviterConversationsStmt finds the direct conversations with the verified identities of the
// customer who was invited, one for each identity.
func (s *Store) inviterConversationsStmt(a claim.Attempt, st *claim.InviteState) sqldb.Statement {
	where, args := s.inviteCondition(a)
	return sqldb.Statement{Query: `
		select min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text), cast(i.id as text)
		from invites v
		join identities i on i.tenant_id = v.tenant_id and i.customer_id = v.customer_id and i.verified_at is not null and i.doubt is null
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where ` + where + ` and not (i.channel = v.channel and i.external_id = ` + sqldb.Placeholder(len(args)+1) + `)
		group by c.instance_id, i.id order by 5, 4 limit 20`, Args: append(args, a.SenderID), Read: sqldb.ScanInto(&st.LinkedConversations, scanLinkedConversation)}
}

// redemptionStmts make an account the customer's own. The invite trips its check when it
// cannot be opened any more, and the last statement one of the lanes unless all came
// about: the customer may be gone, the account somebody's, the conversation erased.
// Whose the account is, is asked as openerStmt asks: a fence that refuses what was
// granted there would be asked again for ever. For the same reason a live claim code of the
// account ends: its fence refuses whoever is verified, and a doubt may come first.
func (s *Store) redemptionStmts(st gateway.Commit) []sqldb.Statement {
	if st.Claim == nil || st.Claim.Redeem == nil {
		return nil
	}
	g, a, now := st.Claim.Redeem, st.Claim.Attempt, s.now()
	return []sqldb.Statement{
		// Locked in this order everywhere: the customer, its invites, its identities.
		{Query: `update customers set updated_at = updated_at where tenant_id = $1 and id = $2`, Args: []any{a.TenantID, g.Invite.CustomerID}},
		{Query: `
			update invites set
				fence = case when used_msg is null and revoked_at is null and expires_at >= $3
					and not exists (
						select 1 from identities x
						where x.tenant_id = $1 and x.channel = invites.channel and x.external_id = $5 and x.customer_id <> invites.customer_id
							and (x.instance_id = invites.instance_id or x.instance_id is null and not exists (
								select 1 from identities y
								where y.tenant_id = $1 and y.channel = x.channel and y.external_id = $5 and y.instance_id = invites.instance_id
									and y.customer_id = invites.customer_id))) then fence else -1 end,
				used_msg = $4, used_at = $6, identity_id = $7
			where tenant_id = $1 and id = $2`, Args: []any{a.TenantID, g.Invite.ID, a.ReceivedAt, a.MessageID, a.SenderID, now, g.IdentityID}},
		{Query: `
			update identities set customer_id = $3, role_override = $4, verified_at = $5, unlink_asked_at = null, updated_at = $5, last_heard_at = $5,
				claim_revoked_at = coalesce(claim_revoked_at, $5), ` + clearExpirySQL + `
			where tenant_id = $1 and id = $2 and channel = $6 and external_id = $7 and instance_id = $8 and (customer_id is null or customer_id = $3)
				and exists (select 1 from invites where tenant_id = $1 and id = $9 and customer_id = $3 and used_msg = $10)`,
			Args: []any{a.TenantID, g.IdentityID, g.Invite.CustomerID, sqldb.TextOrNull(g.Invite.RoleOverride), now, a.Channel, a.SenderID, a.InstanceID, g.Invite.ID, a.MessageID}},
		{Query: `
			insert into lanes (conversation_id, kind, tenant_id, wakes)
			select t.id, 'inbox', t.id, -1 from tenants t
			where t.id = $1 and not exists (
				select 1 from invites v
				join identities i on i.tenant_id = v.tenant_id and i.id = v.identity_id and i.customer_id = v.customer_id
				join conversations c on c.tenant_id = v.tenant_id and c.id = $4
				where v.tenant_id = $1 and v.id = $2 and v.used_msg = $3 and i.verified_at is not null)`,
			Args: []any{a.TenantID, g.Invite.ID, a.MessageID, st.Lease.ConversationID}},
	}
}
