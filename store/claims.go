package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// Limits on codes issued: a person cannot be flooded, and a stolen staff key cannot
// open many doors.
const (
	issuedPerQuarter = 5  // for one identity, and invites for one customer
	issuedPerDay     = 20 // likewise
	issuedPerHour    = 60 // by one actor
)

// Kinds of events that tell of a code issued.
const (
	codeKinds   = `'claim.issued', 'claim.reissued'`
	inviteKinds = `'invite.issued'`
)

// issuedTo is for whom codes of some kinds are counted: a column of the audit log and
// its value.
type issuedTo struct{ column, id, kinds string }

// Issue implements claim.Ledger. The row is locked first, so that of two presses at
// once the later one wins whole.
func (s *Store) Issue(ctx context.Context, tenant, customer, id string, by identity.Actor) (sub claim.Subject, expires time.Time, err error) {
	err = s.db.InTx(ctx, func(tx db) error {
		sub, expires, err = s.issue(ctx, tx, tenant, customer, id, by)
		return err
	})
	return sub, expires, err
}

func (s *Store) issue(ctx context.Context, tx db, tenant, customer, id string, by identity.Actor) (claim.Subject, time.Time, error) {
	sub := claim.Subject{TenantID: tenant, IdentityID: id}
	var expires time.Time
	who := identity.Identity{ID: id, TenantID: tenant, CustomerID: customer}
	rs, err := tx.Query(ctx, `
		update identities set claim_gen = claim_gen + 1, claim_expires_at = `+s.d.in(int(claim.Life/time.Second))+`,
			claim_used_msg = null, claim_revoked_at = null, claim_key = $4
		where tenant_id = $1 and customer_id = $2 and id = $3
		returning instance_id, channel, external_id, claim_gen, claim_expires_at, verified_at, role_override, doubt`, tenant, customer, id, s.keys.IDs()[0])
	_, err = one(rs, err, func(sc scan) (struct{}, error) {
		return struct{}{}, sc(text(&sub.InstanceID), &sub.Channel, &sub.ExternalID, &sub.Gen, utc(&expires), utc(&who.VerifiedAt), text(&who.RoleOverride), text((*string)(&who.Doubt)))
	})
	who.InstanceID, who.Channel = sub.InstanceID, sub.Channel
	switch {
	case noRows(err):
		return sub, expires, identity.ErrNotFound
	case err != nil:
		return sub, expires, fmt.Errorf("issue code: %w", err)
	case who.IsVerified():
		if err := s.unbelieve(ctx, tx, who, by); err != nil {
			return sub, expires, err
		}
	}
	if err := s.issuedTooMany(ctx, tx, tenant, issuedTo{"identity_id", id, codeKinds}, by); err != nil {
		return sub, expires, err
	}
	kind := "claim.issued"
	if sub.Gen > 1 {
		kind = "claim.reissued"
	}
	e := auditStmt(identity.Event{
		TenantID: tenant, Kind: kind, Actor: by, CustomerID: customer, IdentityID: id, InstanceID: sub.InstanceID,
		Detail: map[string]string{"channel": sub.Channel, "generation": fmt.Sprint(sub.Gen)},
	})
	_, err = tx.Exec(ctx, e.query, e.args...)
	return sub, expires, err
}

// revokeCodes ends the live codes of the identities that where names, and says why.
func (s *Store) revokeCodes(ctx context.Context, tx db, by identity.Actor, reason, where string, args ...any) error {
	rs, err := tx.Query(ctx, `
		update identities set claim_revoked_at = `+s.d.now+`
		where `+where+` and claim_used_msg is null and claim_revoked_at is null and claim_expires_at >= `+s.d.now+`
		returning `+identityColumns, args...)
	ended, err := all(rs, err, scanIdentity)
	if err != nil {
		return fmt.Errorf("revoke codes: %w", err)
	}
	var events []identity.Event
	for _, i := range ended {
		events = append(events, about(i, "claim.revoked", by, map[string]string{"reason": reason}))
	}
	return record(ctx, tx, events...)
}

func (s *Store) issuedTooMany(ctx context.Context, tx db, tenant string, to issuedTo, by identity.Actor) error {
	// An actor's codes are issued in turn, whoever they are for: none counts without those
	// that are about to be issued beside it.
	if s.d.turn != "" {
		if _, err := tx.Exec(ctx, s.d.turn, tenant+"\x1f"+string(by)); err != nil {
			return fmt.Errorf("wait for the actor's turn: %w", err)
		}
	}
	for _, l := range []struct {
		issuedTo
		window time.Duration
		most   int
	}{
		{to, 15 * time.Minute, issuedPerQuarter},
		{to, 24 * time.Hour, issuedPerDay},
		{issuedTo{"actor", string(by), codeKinds + `, ` + inviteKinds}, time.Hour, issuedPerHour},
	} {
		var n int
		var oldest time.Time
		rs, err := tx.Query(ctx, `
			select count(*), min(at) from audit_events
			where tenant_id = $1 and `+l.column+` = $2 and kind in (`+l.kinds+`) and at > `+s.d.in(-int(l.window/time.Second)), tenant, l.id)
		if _, err := one(rs, err, func(sc scan) (struct{}, error) { return struct{}{}, sc(&n, utc(&oldest)) }); err != nil {
			return fmt.Errorf("count codes issued: %w", err)
		}
		if n >= l.most {
			return &claim.TooMany{RetryAfter: max(time.Second, time.Until(oldest.Add(l.window)).Round(time.Second))}
		}
	}
	return nil
}

// State implements claim.Ledger, in one round trip. A code whose proof hangs on a
// master key that is not here gives *MissingKey while the proof is kept: it could only
// be called wrong.
func (s *Store) State(ctx context.Context, a claim.Attempt) (claim.State, error) {
	st := claim.State{Subject: claim.Subject{TenantID: a.TenantID, IdentityID: a.IdentityID, Channel: a.Channel, ExternalID: a.SenderID}, Fence: claim.NoCode}
	var key string
	err := s.db.Batch(ctx, []stmt{
		{query: `
			select instance_id, customer_id, claim_gen, claim_expires_at, claim_used_msg, verified_at, role_override, doubt,
				coalesce((select owner_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
				coalesce((select customer_max_age_days from instances n where n.tenant_id = $1 and n.id = $4), 0),
				case when ` + proofKept(s.d) + ` then claim_key end,
				case when claim_expires_at is null then 'no_code' when claim_used_msg is not null then 'used' when claim_revoked_at is not null then 'revoked'
					when claim_expires_at < $3 then 'expired' else 'live' end
			from identities where tenant_id = $1 and id = $2`, args: []any{a.TenantID, a.IdentityID, a.ReceivedAt, a.InstanceID},
			read: func(rs rows) error {
				_, err := all(rs, nil, func(sc scan) (struct{}, error) {
					var who identity.Identity
					var f identity.Freshness
					var fence string
					err := sc(text(&st.Subject.InstanceID), text(&st.Customer), &st.Subject.Gen, utc(&st.ExpiresAt), text(&st.UsedBy), utc(&who.VerifiedAt), text(&who.RoleOverride),
						text((*string)(&who.Doubt)), &f.OwnerDays, &f.CustomerDays, text(&key), &fence)
					who.CustomerID = st.Customer
					st.Verified, st.Fence = s.proven(who, f), claim.Fence(fence)
					return struct{}{}, err
				})
				return err
			}},
		s.failuresStmt(a, &st.Failed),
		s.toldStmt(a, &st.Told),
		s.othersStmt(a, &st),
	})
	if err != nil {
		return st, err
	}
	if _, _, ok := s.keys.find(key); key != "" && !ok {
		return st, &MissingKey{key}
	}
	return st, nil
}

// toldStmt reads whether the sender was told to wait in the window that counts.
func (s *Store) toldStmt(a claim.Attempt, told *bool) stmt {
	return stmt{query: `
		select count(*) from audit_events
		where tenant_id = $1 and identity_id = $2 and kind = 'claim.throttled' and at > ` + s.d.in(-15*60), args: []any{a.TenantID, a.IdentityID},
		read: func(rs rows) error {
			n, err := one(rs, nil, func(sc scan) (n int, err error) { return n, sc(&n) })
			*told = n > 0
			return err
		}}
}

// proofKept says of an identity that the proof of its last code is still of use.
func proofKept(d dialect) string {
	return `claim_used_msg is null and claim_revoked_at is null and claim_expires_at > ` + d.in(-int(claim.Grace/time.Second))
}

func (s *Store) failuresStmt(a claim.Attempt, count *claim.Failed) stmt {
	return stmt{query: `
		select at, ` + s.d.now + ` from claim_failures
		where tenant_id = $1 and instance_id = $2 and channel = $3 and sender_id = $4 and message_id <> $5 and at > ` + s.d.in(-24*60*60) + `
		order by at desc limit 100`, args: []any{a.TenantID, a.InstanceID, a.Channel, a.SenderID, a.MessageID},
		read: func(rs rows) error {
			var now time.Time
			ats, err := all(rs, nil, func(sc scan) (at time.Time, err error) { return at, sc(utc(&at), utc(&now)) })
			*count = failed(ats, now)
			return err
		}}
}

// failed counts failures, newest first, as of now.
func failed(ats []time.Time, now time.Time) claim.Failed {
	f := claim.Failed{Day: len(ats)}
	for _, at := range ats {
		if at.After(now.Add(-15 * time.Minute)) {
			f.Quarter++
		}
		if at.After(now.Add(-time.Hour)) {
			f.Hour++
		}
	}
	if f.Quarter >= claim.MaxQuarter {
		f.Wait = ats[claim.MaxQuarter-1].Add(15 * time.Minute).Sub(now)
	}
	if f.Day >= claim.MaxDay {
		f.Wait = max(f.Wait, ats[claim.MaxDay-1].Add(24*time.Hour).Sub(now))
	}
	return f
}

// othersStmt finds the direct conversations with the customer's other verified
// identities, one for each identity.
func (s *Store) othersStmt(a claim.Attempt, st *claim.State) stmt {
	return stmt{query: `
		select min(c.place_id), max(i.external_id), max(i.channel), cast(c.instance_id as text), cast(i.id as text)
		from identities me
		join identities i on i.tenant_id = me.tenant_id and i.customer_id = me.customer_id and i.id <> me.id and i.verified_at is not null and i.doubt is null
		join conversations c on c.tenant_id = i.tenant_id and c.identity_id = i.id and not c.is_group
		where me.tenant_id = $1 and me.id = $2
		group by c.instance_id, i.id order by 5, 4 limit 20`, args: []any{a.TenantID, a.IdentityID},
		read: into(&st.Others, scanOther)}
}

func scanOther(sc scan) (o claim.Other, err error) {
	var id string
	err = sc(&o.PlaceID, &o.Recipient, &o.Channel, &o.InstanceID, &id)
	return o, err
}

// claimStmts store a ruling. The grant trips the check that undoes everything when
// the fence does not hold any more.
func (s *Store) claimStmts(st gateway.Settlement) []stmt {
	r := st.Claim
	if r == nil {
		return nil
	}
	var stmts []stmt
	a, now := r.Attempt, s.now()
	if g := r.Grant; g != nil {
		stmts = append(stmts, stmt{query: `
			update identities set
				claim_gen = case when claim_gen = $3 and customer_id is not null and verified_at is null and claim_used_msg is null
					and claim_revoked_at is null and claim_expires_at >= $4 then claim_gen else -1 end,
				claim_used_msg = $5, verified_at = $6, role_override = $7, unlink_asked_at = null, updated_at = $6, last_heard_at = $6, ` + believed + `
			where tenant_id = $1 and id = $2`, args: []any{a.TenantID, g.IdentityID, g.Gen, a.ReceivedAt, a.MessageID, now, identity.RoleOwner}},
			// An identity that was removed meanwhile has no row to trip over.
			stmt{query: `
				update lanes set wakes = -1
				where tenant_id = $1 and conversation_id = $2 and kind = $3
					and not exists (select 1 from identities where tenant_id = $1 and id = $4)`,
				args: []any{a.TenantID, st.Lease.ConversationID, string(st.Lease.Kind), g.IdentityID}})
	}
	for _, b := range r.Burn {
		stmts = append(stmts, stmt{query: `
			update identities set claim_revoked_at = $4
			where tenant_id = $1 and id = $2 and claim_gen = $3 and claim_used_msg is null and claim_revoked_at is null`,
			args: []any{a.TenantID, b.IdentityID, b.Gen, now}})
	}
	if i := r.Expose; i != nil {
		stmts = append(stmts, stmt{query: `
			update invites set revoked_at = $3
			where tenant_id = $1 and id = $2 and used_msg is null and revoked_at is null`, args: []any{a.TenantID, i.ID, now}})
	}
	if r.Failure {
		stmts = append(stmts, stmt{query: `
			insert into claim_failures (tenant_id, instance_id, channel, sender_id, message_id)
			values ($1, $2, $3, $4, $5) on conflict do nothing`, args: []any{a.TenantID, a.InstanceID, a.Channel, a.SenderID, a.MessageID}})
	}
	for _, e := range r.Events {
		stmts = append(stmts, auditOwner(e))
	}
	return stmts
}
