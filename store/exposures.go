package store

import (
	"context"
	"fmt"
	"strings"

	"hydragate/claim"
	"hydragate/store/sqldb"
)

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

// exposedInvitesStmt reads the invites among letters that were live when the message was received.
func (s *Store) exposedInvitesStmt(a claim.Attempt, letters []string, st *claim.ExposureState) sqldb.Statement {
	byMAC := map[string]string{}
	args := []any{a.TenantID, a.InstanceID, a.Channel, a.ReceivedAt}
	var placeholders []string
	add := func(mac string) {
		args = append(args, mac)
		placeholders = append(placeholders, sqldb.Placeholder(len(args)))
	}
	for _, code := range letters {
		for _, mac := range s.inviteMACs(a.InstanceID, a.Channel, code) {
			byMAC[mac] = code
			add(mac)
		}
	}
	last := s.inviteMACs(a.InstanceID, a.Channel, letters[len(letters)-1])[0]
	for n := len(placeholders); n&(n-1) != 0; n++ { // a power of two, so that few statements are prepared
		add(last)
	}
	return sqldb.Statement{
		Query: `
		select v.mac, ` + s.inviteColumns() + ` from invites v
		where v.tenant_id = $1 and v.instance_id = $2 and v.channel = $3 and v.used_msg is null and v.opened_msg is null
			and v.revoked_at is null
			and v.expires_at >= $4 and v.mac in (` + strings.Join(placeholders, ", ") + `)`, Args: args,
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

// liveCodeExpr returns the condition that a code for the channel could be redeemed at the instance of a
// message when it was received.
func liveCodeExpr(message string) string {
	live := func(instance string) string {
		return `exists (
			select 1 from identities l
			where l.tenant_id = ` + message + `.tenant_id and l.channel = ` + message + `.channel
				and l.instance_id ` + instance + `
				and l.claim_expires_at >= ` + message + `.received_at and l.claim_expires_at is not null
				and l.claim_used_msg is null and l.claim_revoked_at is null)`
	}
	return `(` + live(`= `+message+`.instance_id`) + ` or ` + live(`is null`) + `)`
}

// liveInviteExpr returns the condition that an invite could be redeemed at the instance and channel of a
// message when it was received.
func liveInviteExpr(message string) string {
	return `exists (
			select 1 from invites l
			where l.tenant_id = ` + message + `.tenant_id and l.instance_id = ` + message + `.instance_id and l.channel = ` +
		message + `.channel
				and l.expires_at >= ` + message + `.received_at and l.used_msg is null and l.revoked_at is null)`
}
