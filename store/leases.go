package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/gateway"
	"hydragate/store/sqldb"
)

// Lease leases at most n due queues of a kind that are not leased. Queues of the excluded
// instances are left out.
func (s *Store) Lease(
	ctx context.Context, kind gateway.QueueKind, holder string, n int, excluded ...string,
) ([]gateway.Lease, error) {
	until := s.dialect.NowPlus(int(gateway.LeaseDuration / time.Second))
	where, args := ``, []any{holder, string(kind), n}
	if len(excluded) > 0 {
		var in string
		in, args = sqldb.PlaceholderList(args, excluded, "$%d")
		where = ` and not exists (select 1 from conversations c where c.id = lanes.conversation_id and c.instance_id in (` +
			in + `))`
	}
	rs, err := s.db.Query(ctx, `
		update lanes set holder = $1, epoch = epoch + 1, lease_until = `+until+`, due_at = `+until+`
		where kind = $2 and conversation_id in (
			select conversation_id from lanes
			where kind = $2 and due_at <= `+s.dialect.Now+` and lease_until <= `+s.dialect.Now+where+`
			order by due_at limit $3`+s.dialect.SkipLocked+`)
		returning conversation_id, tenant_id, (select c.instance_id from conversations c where c.id = lanes.conversation_id),
			epoch, wakes`, args...)
	return sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (l gateway.Lease, err error) {
		l.Kind, l.Holder = kind, holder
		return l, sc(&l.ConversationID, &l.TenantID, &l.InstanceID, &l.Epoch, &l.Wakes)
	})
}

// ReleaseStale releases all leases of queues and pollers, so that a restarted process does not
// wait for the leases of the previous one to expire. It must only be called if no other process
// uses the database: the work of a running holder would be done twice until it notices the loss.
func (s *Store) ReleaseStale(ctx context.Context) error {
	return s.db.Batch(ctx, []sqldb.Statement{
		{Query: `update lanes set lease_until = ` + s.dialect.Now + `, due_at = ` + s.dialect.Now +
			`, holder = '' where holder <> ''`},
		{Query: `update endpoints set poll_until = ` + s.dialect.Now + `, poll_holder = '' where poll_holder <> ''`},
		{Query: `update provider_addresses set poll_until = ` + s.dialect.Now + `, poll_holder = '' where poll_holder <> ''`},
	})
}

// leaseStmt renews or releases a lease. It violates a check constraint, which rolls back the
// batch, if the lease is lost.
func (s *Store) leaseStmt(st gateway.Commit) sqldb.Statement {
	l := st.Lease
	assignments := `lease_until = ` + s.dialect.NowPlus(int(gateway.LeaseDuration/time.Second)) + `, due_at = ` +
		s.dialect.NowPlus(int(gateway.LeaseDuration/time.Second))
	args := []any{l.ConversationID, string(l.Kind), l.TenantID, l.Epoch, l.Holder}
	if st.Release {
		next := `null`
		args = append(args, l.Wakes)
		if !st.Next.IsZero() {
			next = s.dialect.NowPlusExpr("$7")
			args = append(args, time.Until(st.Next).Seconds())
		}
		assignments = `lease_until = ` + s.dialect.Now + `, holder = '', due_at = case when wakes = $6 then ` + next +
			` else ` + s.dialect.Now + ` end`
	}
	return sqldb.Statement{Query: `
		update lanes set epoch = case when epoch = $4 and holder = $5 then epoch else -1 end, ` + assignments + `
		where conversation_id = $1 and kind = $2 and tenant_id = $3`, Args: args}
}

// requireStmts returns the statement that rolls back a commit, as if the lease were lost, if the queue, or
// what was processed in it, was erased in the meantime: nothing of the person must be stored again. The
// statements that update what was processed must come before it, so that it cannot be erased later.
func requireStmts(st gateway.Commit) []sqldb.Statement {
	l, missing := st.Lease, ``
	args := []any{l.TenantID, l.ConversationID, string(l.Kind)}
	require := func(table, id string) {
		args = append(args, id)
		missing += `
			or not exists (select 1 from ` + table + ` where tenant_id = $1 and id = ` + sqldb.Placeholder(len(args)) + `)`
	}
	for _, m := range st.Messages {
		require(`messages`, m.ID)
	}
	for _, r := range st.DeliveryResults {
		require(`deliveries`, r.ID)
	}
	if missing == `` && len(st.CreatedIdentities) == 0 {
		return nil
	}
	return []sqldb.Statement{{Query: `
		insert into lanes (conversation_id, kind, tenant_id, epoch)
		select t.id, 'inbox', t.id, -1 from tenants t
		where t.id = $1 and (
			not exists (select 1 from lanes where tenant_id = $1 and conversation_id = $2 and kind = $3)` + missing + `)`,
		Args: args}}
}

// Apply stores the result of processing a queue in one transaction and one round trip. It returns
// gateway.ErrLeaseLost if another worker holds the queue or what was processed was erased,
// gateway.ErrFenced if a claim in the commit can no longer be granted, and an error that matches
// gateway.ErrUnstorable if the database rejects the data. Nothing is stored if it returns an error.
func (s *Store) Apply(ctx context.Context, st gateway.Commit) error {
	messages, err := s.messageStmts(st)
	if err != nil {
		return err
	}
	stmts := append(s.lockReplyLimitStmts(st.Replies), s.leaseStmt(st))
	stmts = append(stmts, messages...)
	stmts = append(stmts, s.deliveryResultStmts(st)...)
	stmts = append(stmts, requireStmts(st)...)
	stmts = append(stmts, s.claimStmts(st)...)
	stmts = append(stmts, s.insertSenderStmts(st)...)
	stmts = append(stmts, s.redemptionStmts(st)...)
	stmts = append(stmts, s.senderStmts(st)...)
	for _, e := range st.Events {
		stmts = append(stmts, auditStmt(e))
	}
	stmts = append(stmts, s.deliveryStmts(st)...)
	outbox, err := s.outboxStmts(st)
	if err != nil {
		return err
	}
	stmts = append(stmts, outbox...)
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	err = s.db.Batch(ctx, stmts)
	switch {
	case err == nil:
		return nil
	case s.dialect.IsCheckViolation(err, "lanes_lease"):
		return gateway.ErrLeaseLost
	case s.dialect.IsCheckViolation(err, "identities_claim"),
		s.dialect.IsCheckViolation(err, "invites_fence"),
		s.dialect.IsCheckViolation(err, "claim_requests_fence"),
		s.dialect.IsCheckViolation(err, "lanes_claim"):
		return gateway.ErrFenced
	case s.dialect.IsUnstorable(err):
		return fmt.Errorf("%w: %w", gateway.ErrUnstorable, err)
	}
	return fmt.Errorf("apply commit to %s queue: %w", st.Lease.Kind, err)
}

// wakeQueue makes a queue of a conversation due after a delay.
func (s *Store) wakeQueue(kind gateway.QueueKind, tenant, conversation string, after time.Duration) sqldb.Statement {
	var v rowValues
	v.add(conversation, string(kind), tenant, rawSQL(s.dialect.NowPlus(int(after.Seconds()))))
	return s.wakeStmt(v)
}

// replicaRetention is how long the row of a gateway that was killed is kept.
const replicaRetention = daySeconds

// TouchReplica implements gateway.ReplicaStore. A gateway that was killed before r started is not
// returned, because it has not been seen since.
func (s *Store) TouchReplica(ctx context.Context, r gateway.Replica) (others []gateway.Replica, err error) {
	err = s.db.Batch(ctx, []sqldb.Statement{
		{
			Query: `
			insert into replicas (holder, code_store) values ($1, $2)
			on conflict (holder) do update set code_store = excluded.code_store, seen_at = ` + s.dialect.Now,
			Args: []any{r.Holder, r.CodeStore},
		},
		{Query: `delete from replicas where seen_at < ` + s.dialect.NowPlus(-replicaRetention)},
		{
			Query: `
			select o.holder, o.code_store from replicas o
			where o.holder <> $1 and o.seen_at > (select m.started_at from replicas m where m.holder = $1)
				and o.seen_at > ` + s.dialect.NowPlus(-int(gateway.ReplicaTimeout/time.Second)) + `
			order by o.holder`, Args: []any{r.Holder},
			Read: sqldb.ScanInto(&others, scanReplica),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("record replica: %w", err)
	}
	return others, nil
}

// Replicas returns the gateways that were seen within the last gateway.ReplicaTimeout.
func (s *Store) Replicas(ctx context.Context) ([]gateway.Replica, error) {
	rs, err := s.db.Query(ctx, `
		select holder, code_store from replicas
		where seen_at > `+s.dialect.NowPlus(-int(gateway.ReplicaTimeout/time.Second))+` order by holder`)
	replicas, err := sqldb.ScanAll(rs, err, scanReplica)
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	return replicas, nil
}

func scanReplica(sc sqldb.ScanFunc) (r gateway.Replica, err error) {
	err = sc(&r.Holder, &r.CodeStore)
	return r, err
}

// RemoveReplica implements gateway.ReplicaStore.
func (s *Store) RemoveReplica(ctx context.Context, holder string) error {
	_, err := s.db.Exec(ctx, `delete from replicas where holder = $1`, holder)
	return err
}
