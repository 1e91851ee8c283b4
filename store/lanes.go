package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/gateway"
)

// Lease takes at most n lanes of a kind that are due and that nobody works, none of the
// instances to be spared.
func (s *Store) Lease(ctx context.Context, kind gateway.LaneKind, holder string, n int, spared ...string) ([]gateway.Lease, error) {
	until := s.d.in(int(gateway.LeaseTime / time.Second))
	others, args := ``, []any{holder, string(kind), n}
	if len(spared) > 0 {
		var in string
		in, args = listed(args, spared, "$%d")
		others = ` and not exists (select 1 from conversations c where c.id = lanes.conversation_id and c.instance_id in (` + in + `))`
	}
	rs, err := s.db.Query(ctx, `
		update lanes set holder = $1, epoch = epoch + 1, lease_until = `+until+`, due_at = `+until+`
		where kind = $2 and conversation_id in (
			select conversation_id from lanes
			where kind = $2 and due_at <= `+s.d.now+` and lease_until <= `+s.d.now+others+`
			order by due_at limit $3`+s.d.skipLocked+`)
		returning conversation_id, tenant_id, (select c.instance_id from conversations c where c.id = lanes.conversation_id), epoch, wakes`, args...)
	return all(rs, err, func(sc scan) (l gateway.Lease, err error) {
		l.Kind, l.Holder = kind, holder
		return l, sc(&l.ConversationID, &l.TenantID, &l.InstanceID, &l.Epoch, &l.Wakes)
	})
}

// Inherit gives back every lease of lanes and pollers, so that nobody waits for a
// process that died. Only who knows that no other process is at this database may call
// it: with one that lives, both would work the same lanes until it finds its lease gone.
func (s *Store) Inherit(ctx context.Context) error {
	return s.db.Batch(ctx, []stmt{
		{query: `update lanes set lease_until = ` + s.d.now + `, due_at = ` + s.d.now + `, holder = '' where holder <> ''`},
		{query: `update endpoints set poll_until = ` + s.d.now + `, poll_holder = '' where poll_holder <> ''`},
	})
}

// holdStmt renews or gives back a lease, and trips the check that undoes the whole
// batch when the lane has another holder by now.
func (s *Store) holdStmt(st gateway.Settlement) stmt {
	l := st.Lease
	hold := `lease_until = ` + s.d.in(int(gateway.LeaseTime/time.Second)) + `, due_at = ` + s.d.in(int(gateway.LeaseTime/time.Second))
	args := []any{l.ConversationID, string(l.Kind), l.TenantID, l.Epoch, l.Holder}
	if st.Release {
		next := `null`
		args = append(args, l.Wakes)
		if !st.Next.IsZero() {
			next = s.d.after("$7")
			args = append(args, st.Next.Sub(time.Now()).Seconds())
		}
		hold = `lease_until = ` + s.d.now + `, holder = '', due_at = case when wakes = $6 then ` + next + ` else ` + s.d.now + ` end`
	}
	return stmt{query: `
		update lanes set epoch = case when epoch = $4 and holder = $5 then epoch else -1 end, ` + hold + `
		where conversation_id = $1 and kind = $2 and tenant_id = $3`, args: args}
}

// Settle stores what working a lane changed, whole or not at all, in one round trip.
// gateway.ErrLeaseLost, gateway.ErrFenced, gateway.ErrUnstorable.
func (s *Store) Settle(ctx context.Context, st gateway.Settlement) error {
	stmts := []stmt{s.holdStmt(st)}
	stmts = append(stmts, s.claimStmts(st)...)
	stmts = append(stmts, s.metStmts(st)...)
	stmts = append(stmts, s.admitStmts(st)...)
	stmts = append(stmts, s.personStmts(st)...)
	stmts = append(stmts, s.messageStmts(st)...)
	for _, e := range st.Events {
		stmts = append(stmts, auditStmt(e))
	}
	stmts = append(stmts, s.deliveryStmts(st)...)
	outbox, err := s.outboxStmts(st)
	if err != nil {
		return err
	}
	stmts = append(stmts, outbox...)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = s.db.Batch(ctx, stmts)
	switch {
	case err == nil:
		return nil
	case s.d.violates(err, "lanes_lease"):
		return gateway.ErrLeaseLost
	case s.d.violates(err, "identities_claim"), s.d.violates(err, "invites_fence"), s.d.violates(err, "lanes_claim"):
		return gateway.ErrFenced
	case s.d.unstorable(err):
		return fmt.Errorf("%w: %w", gateway.ErrUnstorable, err)
	}
	return fmt.Errorf("settle %s of a conversation: %w", st.Lease.Kind, err)
}

// wakeLane announces work of a kind, to be done after so long.
func (s *Store) wakeLane(kind gateway.LaneKind, tenant, conversation string, after time.Duration) stmt {
	var v values
	v.row(conversation, string(kind), tenant, sqlText(s.d.in(int(after.Seconds()))))
	return s.wake(v)
}
