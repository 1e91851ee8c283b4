package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
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
	return []sqldb.Statement{{
		Query: `
		insert into lanes (conversation_id, kind, tenant_id, epoch)
		select t.id, 'inbox', t.id, -1 from tenants t
		where t.id = $1 and (
			not exists (select 1 from lanes where tenant_id = $1 and conversation_id = $2 and kind = $3)` + missing + `)`,
		Args: args,
	}}
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
	stmts := s.lockReplyLimitStmts(st.Replies)
	if u := st.Unreachable; u != nil && u.OptedOut {
		// The queue of the event is locked before that of the replies, as by a delivery with replies.
		stmts = append(stmts, s.wakeEventsStmt(`from conversations c where c.tenant_id = $1 and c.id = $2`,
			st.Lease.TenantID, u.ConversationID))
	}
	stmts = append(stmts, s.leaseStmt(st))
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
	case s.dialect.IsCheckViolation(err, "lanes_lease"), s.dialect.IsCheckViolation(err, "lanes_moved"):
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

// MoveConversation implements outbox.ReplyStore.
func (s *Store) MoveConversation(ctx context.Context, m gateway.ConversationMove) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := s.db.Batch(ctx, s.moveStmts(m)); err != nil {
		return fmt.Errorf("move conversation: %w", err)
	}
	return nil
}

// recordMoves stores the moves that messages report.
func (s *Store) recordMoves(ctx context.Context, messages []gateway.IncomingMessage) error {
	for _, m := range messages {
		if m.Move != nil {
			if err := s.ingestDB.Batch(ctx, s.moveStmts(*m.Move)); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveStmts returns the statements that make the conversations of a move one. The inbox queue of m.To refers to
// m.From from then on, and cannot become due: a message that is added to it violates a check constraint, and
// InsertMessages adds it to m.From. What waits in m.To is moved, except for events and replies that another
// process is working on. The statements have no effect if they are executed again.
func (s *Store) moveStmts(m gateway.ConversationMove) []sqldb.Statement {
	var stmts []sqldb.Statement
	var conversations rowValues
	ids := []string{min(m.From, m.To), max(m.From, m.To)} // locked in this order, as by InsertMessages
	for _, id := range ids {
		chat := m.Chat.From
		if id == m.To {
			chat = m.Chat.To
		}
		conversations.add(id, m.TenantID, m.InstanceID, string(m.Channel), chat, true, s.now())
	}
	stmts = append(stmts, sqldb.Statement{Query: `
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		values ` + conversations.String() + ` on conflict do nothing`, Args: conversations.args})
	for _, kind := range []gateway.QueueKind{gateway.InboxQueue, gateway.DeliveryQueue, gateway.OutboxQueue} {
		for _, id := range ids {
			stmts = append(stmts, sqldb.Statement{
				Query: `
				insert into lanes (conversation_id, kind, tenant_id) values ($1, $2, $3)
				on conflict (conversation_id, kind) do update set wakes = lanes.wakes + 1`,
				Args: []any{id, string(kind), m.TenantID},
			})
		}
	}
	const isMoved = ` and exists (
			select 1 from lanes i where i.conversation_id = $3 and i.kind = 'inbox' and i.moved_to = $2)`
	isFree := func(kind gateway.QueueKind) string {
		return ` and exists (select 1 from lanes q where q.conversation_id = $3 and q.kind = '` + string(kind) +
			`' and q.lease_until <= ` + s.dialect.Now + `)`
	}
	args := []any{m.TenantID, m.From, m.To}
	for _, query := range []string{
		`update lanes set moved_to = $2, due_at = null, holder = '', epoch = epoch + 1
		where tenant_id = $1 and conversation_id = $3 and kind = 'inbox' and moved_to is null and conversation_id <> $2
			and not exists (
				select 1 from lanes o where o.conversation_id = $2 and o.kind = 'inbox' and o.moved_to is not null)`,
		`update messages set conversation_id = $2
		where tenant_id = $1 and conversation_id = $3 and state = 'new'` + isMoved,
		`update deliveries set conversation_id = $2
		where tenant_id = $1 and conversation_id = $3 and status = 'pending'` + isMoved + isFree(gateway.DeliveryQueue),
		`update outbox set conversation_id = $2
		where tenant_id = $1 and conversation_id = $3 and status in ('queued', 'sending')` + isMoved +
			isFree(gateway.OutboxQueue),
	} {
		stmts = append(stmts, sqldb.Statement{Query: query, Args: args})
	}
	stmts = append(stmts, sqldb.Statement{
		Query: `update conversations set moved_place_id = $4 where tenant_id = $1 and id = $2` + isMoved,
		Args:  []any{m.TenantID, m.From, m.To, m.Chat.To},
	})
	for _, kind := range []gateway.QueueKind{gateway.DeliveryQueue, gateway.OutboxQueue} {
		stmts = append(stmts, s.wakeQueue(kind, m.TenantID, m.From, 0))
	}
	return append(stmts, sqldb.Statement{
		Query: `update lanes set due_at = ` + s.dialect.Least("due_at", s.dialect.Now) + `
		where tenant_id = $1 and conversation_id = $2 and kind = 'inbox' and moved_to is null and conversation_id <> $3`,
		Args: args,
	})
}

// readMoves looks up the conversations of messages whose chats have another ID now, after cause, the error of
// storing the messages. It returns cause if there are none.
func (s *Store) readMoves(
	ctx context.Context, messages []gateway.IncomingMessage, cause error,
) (found bool, err error) {
	var ids, tenants []string
	for _, m := range distinctConversations(messages) {
		ids, tenants = append(ids, m.ConversationID), append(tenants, m.TenantID)
	}
	in, args := sqldb.PlaceholderList(nil, ids, "$%d")
	ofTenants, args := sqldb.PlaceholderList(args, tenants, "$%d")
	rs, err := s.ingestDB.Query(ctx, `
		select conversation_id, moved_to from lanes
		where tenant_id in (`+ofTenants+`) and kind = 'inbox' and moved_to is not null and conversation_id in (`+in+`)`,
		args...)
	moves, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (m [2]string, err error) {
		return m, sc(sqldb.Text(&m[0]), sqldb.Text(&m[1]))
	})
	switch {
	case err != nil:
		return false, err
	case len(moves) == 0:
		return false, cause
	}
	for _, m := range moves {
		s.moves.add(m[0], m[1])
	}
	return true, nil
}

// knownMoves are the conversations whose chats have another ID now, as far as they are known. A move is never
// reversed.
type knownMoves struct {
	mu sync.Mutex
	to map[string]string // current conversation by that of the new ID
}

// maxKnownMoves limits the memory of knownMoves.
const maxKnownMoves = 10_000

func (k *knownMoves) add(from, to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.to == nil || len(k.to) >= maxKnownMoves {
		k.to = map[string]string{}
	}
	k.to[from] = to
}

// apply returns messages in their current conversations. It does not change the argument.
func (k *knownMoves) apply(messages []gateway.IncomingMessage) []gateway.IncomingMessage {
	k.mu.Lock()
	defer k.mu.Unlock()
	cloned := false
	for i, m := range messages {
		to, ok := k.to[m.ConversationID]
		if !ok {
			continue
		}
		if !cloned {
			messages, cloned = slices.Clone(messages), true
		}
		messages[i].ConversationID = to
	}
	return messages
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
