package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// clearExpirySQL lists the assignments that reset the expiry of a verification when it is set or
// withdrawn.
const clearExpirySQL = `doubted_at = null, doubt = null, reclaim_told_at = null`

// clearExpiry resets the expiry of an identity's verification.
func clearExpiry(ctx context.Context, tx sqldb.DB, tenant, id string) error {
	_, err := tx.Exec(ctx, `update identities set `+clearExpirySQL+` where tenant_id = $1 and id = $2`, tenant, id)
	return err
}

// expireVerificationStmts returns the statements that expire the verification of an identity and
// record the event. id is an expression for its ID, in which $1 is the tenant and args follow.
// They have no effect if the identity is not verified or its verification has expired already.
func expireVerificationStmts(
	reason identity.ExpiryReason, now time.Time, tenant, id string, args ...any,
) []sqldb.Statement {
	args = append([]any{tenant}, args...)
	placeholder := func(n int) string { return fmt.Sprintf("$%d", len(args)+n) }
	where := ` where tenant_id = $1 and verified_at is not null and doubt is null and id = (` + id + `)`
	detail := encodeDetail(map[string]string{"reason": string(reason)})
	return []sqldb.Statement{
		{Query: `
			insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, detail)
			select ` + placeholder(1) + `, tenant_id, 'identity.doubted', '` + string(identity.System) +
			`', customer_id, id, instance_id, ` + placeholder(2) + `
			from identities` + where, Args: append(slices.Clip(args), newID(), detail)},
		{
			Query: `update identities set doubted_at = ` + placeholder(1) + `, doubt = ` + placeholder(2) + `, updated_at = ` +
				placeholder(1) + where,
			Args: append(slices.Clip(args), now, string(reason)),
		},
	}
}

// withdrawVerification withdraws a verification that has expired, so that the account can be
// claimed again. It returns identity.ErrAlreadyVerified if the verification is still valid. For an
// identity that is valid for all instances, the strictest policy of the tenant's instances
// applies.
func (s *Store) withdrawVerification(ctx context.Context, tx sqldb.DB, i identity.Identity, by identity.Actor) error {
	policy, err := s.verificationPolicy(ctx, tx, i)
	if err != nil {
		return err
	}
	now := s.now()
	role := policy.EffectiveRole(i, now)
	if role.Reason == "" {
		return identity.ErrAlreadyVerified
	}
	if i.ExpiryReason == "" {
		i.ExpiryReason = identity.ExpiredByAge
	}
	if _, err := tx.Exec(ctx, `
		update identities set verified_at = null, doubt = $3, doubted_at = coalesce(doubted_at, $4), updated_at = $4
		where tenant_id = $1 and id = $2`, i.TenantID, i.ID, string(i.ExpiryReason), now); err != nil {
		return fmt.Errorf("withdraw verification: %w", err)
	}
	return recordEvents(ctx, tx, identityEvent(i, "identity.unverified", by,
		map[string]string{"reason": string(i.ExpiryReason)}))
}

// hasValidVerification reports whether an identity is verified and the verification has not
// expired under a policy.
func (s *Store) hasValidVerification(i identity.Identity, policy identity.VerificationPolicy) bool {
	return i.IsVerified() && policy.EffectiveRole(i, s.now()).Reason == ""
}

// verificationPolicy returns how long a verification of an identity is valid: by the policy of its
// instance, or by the strictest of all instances at which the identity is valid.
func (s *Store) verificationPolicy(
	ctx context.Context, db sqldb.DB, i identity.Identity,
) (policy identity.VerificationPolicy, err error) {
	within, args := ``, []any{i.TenantID}
	if i.InstanceID != "" {
		within, args = ` and id = $2`, append(args, i.InstanceID)
	}
	rs, err := db.Query(ctx, `
		select coalesce(min(owner_max_age_days), 0), coalesce(min(customer_max_age_days), 0) from instances
		where tenant_id = $1`+within, args...)
	if _, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
		return struct{}{}, sc(&policy.OwnerDays, &policy.CustomerDays)
	}); err != nil {
		return policy, fmt.Errorf("read verification policy: %w", err)
	}
	return policy, nil
}

// unlinkStmts returns the statements that delete an identity at the request of its owner, or
// record or cancel an unconfirmed request.
func (s *Store) unlinkStmts(u *gateway.UnlinkRequest, now time.Time) []sqldb.Statement {
	switch {
	case u == nil:
		return nil
	case u.Failed:
		return []sqldb.Statement{{
			Query: `
			update identities set unlink_asked_at = null, unlink_word = null,
				unlink_failures = case when unlink_failed_at > ` + s.unlinkFailuresSince() + ` then unlink_failures + 1 else 1 end,
				unlink_failed_at = case when unlink_failed_at > ` + s.unlinkFailuresSince() + ` then unlink_failed_at else $3 end
			where tenant_id = $1 and id = $2`,
			Args: []any{u.TenantID, u.IdentityID, now},
		}}
	case !u.Confirmed && !u.Requested:
		return []sqldb.Statement{{
			Query: `update identities set unlink_asked_at = null where tenant_id = $1 and id = $2`,
			Args:  []any{u.TenantID, u.IdentityID},
		}}
	case !u.Confirmed:
		return []sqldb.Statement{{
			Query: `update identities set unlink_asked_at = $3, unlink_word = $4 where tenant_id = $1 and id = $2`,
			Args:  []any{u.TenantID, u.IdentityID, now, sqldb.TextOrNull(u.Word)},
		}}
	}
	return []sqldb.Statement{
		// Lock the row first, so that nothing is added to the identity.
		{
			Query: `update identities set updated_at = $3 where tenant_id = $1 and id = $2`,
			Args:  []any{u.TenantID, u.IdentityID, now},
		},
		{
			Query: `update conversations set identity_id = null where tenant_id = $1 and identity_id = $2`,
			Args:  []any{u.TenantID, u.IdentityID},
		},
		{Query: `delete from identities where tenant_id = $1 and id = $2`, Args: []any{u.TenantID, u.IdentityID}},
	}
}

// unlinkFailuresSince returns the expression for the time since which wrong words are counted.
func (s *Store) unlinkFailuresSince() string {
	return s.dialect.NowPlus(-int(gateway.UnlinkFailureWindow / time.Second))
}
