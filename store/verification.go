package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// clearExpirySQL ends every doubt about an identity, in a statement that verifies it or takes
// that back.
const clearExpirySQL = `doubted_at = null, doubt = null, reclaim_told_at = null`

func clearExpiry(ctx context.Context, tx sqldb.DB, tenant, id string) error {
	_, err := tx.Exec(ctx, `update identities set `+clearExpirySQL+` where tenant_id = $1 and id = $2`, tenant, id)
	return err
}

// expireVerificationStmts doubt the verification of the identity whose id a subquery gives, which
// has the tenant for $1 and args after it. The first doubt stays; who is not verified
// is not doubted.
func expireVerificationStmts(why identity.ExpiryReason, now time.Time, tenant, id string, args ...any) []sqldb.Statement {
	args = append([]any{tenant}, args...)
	at := func(n int) string { return fmt.Sprintf("$%d", len(args)+n) }
	which := ` where tenant_id = $1 and verified_at is not null and doubt is null and id = (` + id + `)`
	detail, _ := json.Marshal(map[string]string{"reason": string(why)})
	return []sqldb.Statement{
		{Query: `
			insert into audit_events (id, tenant_id, kind, actor, customer_id, identity_id, instance_id, detail)
			select ` + at(1) + `, tenant_id, 'identity.doubted', '` + string(identity.System) + `', customer_id, id, instance_id, ` + at(2) + `
			from identities` + which, Args: append(args[:len(args):len(args)], newID(), string(detail))},
		{Query: `update identities set doubted_at = ` + at(1) + `, doubt = ` + at(2) + `, updated_at = ` + at(1) + which,
			Args: append(args[:len(args):len(args)], now, string(why))},
	}
}

// withdrawVerification takes a verification back that is not believed any more, so that the
// account can be claimed again; identity.ErrVerified when it is believed. Of an identity
// of every instance the strictest policy of any of them decides.
func (s *Store) withdrawVerification(ctx context.Context, tx sqldb.DB, i identity.Identity, by identity.Actor) error {
	within, args := ``, []any{i.TenantID}
	if i.InstanceID != "" {
		within, args = ` and id = $2`, append(args, i.InstanceID)
	}
	var f identity.VerificationPolicy
	rs, err := tx.Query(ctx, `
		select coalesce(min(owner_max_age_days), 0), coalesce(min(customer_max_age_days), 0) from instances
		where tenant_id = $1`+within, args...)
	if _, err := sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) { return struct{}{}, sc(&f.OwnerDays, &f.CustomerDays) }); err != nil {
		return fmt.Errorf("read how long verifications last: %w", err)
	}
	now := s.now()
	st := f.EffectiveRole(i, now)
	if st.Reason == "" {
		return identity.ErrAlreadyVerified
	}
	if i.ExpiryReason == "" {
		i.ExpiryReason = identity.ExpiredByAge
	}
	if _, err := tx.Exec(ctx, `
		update identities set verified_at = null, doubt = $3, doubted_at = coalesce(doubted_at, $4), updated_at = $4
		where tenant_id = $1 and id = $2`, i.TenantID, i.ID, string(i.ExpiryReason), now); err != nil {
		return fmt.Errorf("take back verification: %w", err)
	}
	return recordEvents(ctx, tx, identityEvent(i, "identity.unverified", by, map[string]string{"reason": string(i.ExpiryReason)}))
}

// hasValidVerification reports whether the sender of an attempt needs no code: verified, and
// believed by the instance that hears it.
func (s *Store) hasValidVerification(i identity.Identity, f identity.VerificationPolicy) bool {
	return i.IsVerified() && f.EffectiveRole(i, s.now()).Reason == ""
}
