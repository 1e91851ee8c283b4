package store

import (
	"context"
	"fmt"

	"hydragate/store/sqldb"
)

const daySeconds = 24 * 60 * 60 // in seconds

// How long things are kept, by the database's clock.
const (
	textRetention = 30 * daySeconds // what people wrote and were answered, since it came or was sent
	rowRetention  = 90 * daySeconds // the rows of messages: their keys tell a repeated delivery
)

// purgeBatch is how many rows one statement takes: few, so that nobody waits for it.
const purgeBatch = 1000

// Purge empties messages and replies after 30 days and removes them after 90, with what
// hangs on them: those that are settled, and of which nothing waits to be posted or
// sent. It removes replaced secrets once they end, idempotency keys after a day, counted
// failures after two days, what would undo a merge after 30 days, and receipts, settled
// deliveries and what became of invites after 90.
func (s *Store) Purge(ctx context.Context) (int64, error) {
	var total int64
	for _, queries := range [][]string{
		{`delete from idempotency_keys where created_at < ` + s.dialect.NowPlus(-daySeconds)},
		{`delete from retired_secrets where until <= ` + s.dialect.Now},
		{`delete from claim_failures where at < ` + s.dialect.NowPlus(-2*daySeconds)},
		{`delete from invites where expires_at < ` + s.dialect.NowPlus(-90*daySeconds)},
		{`delete from receipts where at < ` + s.dialect.NowPlus(-90*daySeconds)},
		{`delete from merged_customers where id in (select customer_id from customer_merges where merged_at < ` + s.dialect.NowPlus(-30*daySeconds) + `)`},
		{`delete from merged_identities where customer_id in (select customer_id from customer_merges where merged_at < ` + s.dialect.NowPlus(-30*daySeconds) + `)`},
		s.clearMessageTexts(), s.clearReplyTexts(), s.deleteMessages(), s.deleteReplies(), s.deleteDeliveries(),
	} {
		n, err := s.runInBatches(ctx, queries)
		total += n
		if err != nil {
			return total, fmt.Errorf("sweep: %w", err)
		}
	}
	return total, nil
}

// runInBatches runs statements together, each time in a transaction of its own, until the
// last of them finds less than it could take.
func (s *Store) runInBatches(ctx context.Context, queries []string) (total int64, err error) {
	for {
		changed, stmts := make([]int64, len(queries)), make([]sqldb.Statement, len(queries))
		for i, q := range queries {
			stmts[i] = sqldb.Statement{Query: q, RowsAffected: &changed[i]}
		}
		if err := s.retryTx(ctx, func(tx sqldb.DB) error { return tx.Batch(ctx, stmts) }); err != nil {
			return total, err
		}
		for _, n := range changed {
			total += n
		}
		if changed[len(changed)-1] < purgeBatch {
			return total, nil
		}
	}
}

// batchLimit ends a select of the rows that one statement takes. What another process works
// on is left to the next sweep.
func (s *Store) batchLimit(order string) string {
	return fmt.Sprintf(` order by `+order+` limit %d`, purgeBatch) + s.dialect.SkipLocked
}

// An empty message has the body {}, which no other has.
func (s *Store) clearMessageTexts() []string {
	return []string{`
		update messages set text = '', body = '{}', sealed = null
		where id in (
			select m.id from messages m
			where m.state <> 'new' and m.body <> '{}' and m.received_at < ` + s.dialect.NowPlus(-textRetention) + `
				and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')` + s.batchLimit(`m.received_at`) + `)`}
}

func (s *Store) clearReplyTexts() []string {
	return []string{`
		update outbox set text = ''
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text <> '' and updated_at < ` + s.dialect.NowPlus(-textRetention) + s.batchLimit(`updated_at`) + `)`}
}

// deleteMessages removes the same messages thrice: their events, their replies, and, of
// which none is left, themselves.
func (s *Store) deleteMessages() []string {
	expired := `
		select m.id from messages m
		where m.state <> 'new' and m.body = '{}' and m.received_at < ` + s.dialect.NowPlus(-rowRetention) + `
			and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')
			and not exists (select 1 from outbox o where o.message_id = m.id and o.status in ('queued', 'sending'))` + s.batchLimit(`m.received_at`)
	return []string{
		`delete from deliveries where message_id in (` + expired + `)`,
		`delete from outbox where message_id in (` + expired + `)`,
		`delete from messages where id in (` + expired + `) and not exists (select 1 from deliveries d where d.message_id = messages.id)`,
	}
}

// deleteReplies removes what answered no message that is here.
func (s *Store) deleteReplies() []string {
	return []string{`
		delete from outbox
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text = '' and updated_at < ` + s.dialect.NowPlus(-rowRetention) + s.batchLimit(`updated_at`) + `)`}
}

// deleteDeliveries removes deliveries of no message.
func (s *Store) deleteDeliveries() []string {
	return []string{`
		delete from deliveries
		where id in (
			select id from deliveries
			where message_id is null and status <> 'pending' and settled_at < ` + s.dialect.NowPlus(-rowRetention) + s.batchLimit(`settled_at`) + `)`}
}
