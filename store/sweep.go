package store

import (
	"context"
	"fmt"
)

const day = 24 * 60 * 60 // in seconds

// How long things are kept, by the database's clock.
const (
	keepTexts = 30 * day // what people wrote and were answered, since it came or was sent
	keepKeys  = 90 * day // the rows of messages: their keys tell a repeated delivery
)

// sweepAtOnce is how many rows one statement takes: few, so that nobody waits for it.
const sweepAtOnce = 1000

// Sweep empties messages and replies after 30 days and removes them after 90, with what
// hangs on them: those that are settled, and of which nothing waits to be posted or
// sent. It removes replaced secrets once they end, idempotency keys after a day, counted
// failures after two days, what would undo a merge after 30 days, and receipts, settled
// deliveries and what became of invites after 90.
func (s *Store) Sweep(ctx context.Context) (int64, error) {
	var total int64
	for _, queries := range [][]string{
		{`delete from idempotency_keys where created_at < ` + s.d.in(-day)},
		{`delete from retired_secrets where until <= ` + s.d.now},
		{`delete from claim_failures where at < ` + s.d.in(-2*day)},
		{`delete from invites where expires_at < ` + s.d.in(-90*day)},
		{`delete from receipts where at < ` + s.d.in(-90*day)},
		{`delete from merged_customers where id in (select customer_id from customer_merges where merged_at < ` + s.d.in(-30*day) + `)`},
		{`delete from merged_identities where customer_id in (select customer_id from customer_merges where merged_at < ` + s.d.in(-30*day) + `)`},
		s.emptyMessages(), s.emptyReplies(), s.removeMessages(), s.removeReplies(), s.removeEvents(),
	} {
		n, err := s.inBatches(ctx, queries)
		total += n
		if err != nil {
			return total, fmt.Errorf("sweep: %w", err)
		}
	}
	return total, nil
}

// inBatches runs statements together, each time in a transaction of its own, until the
// last of them finds less than it could take.
func (s *Store) inBatches(ctx context.Context, queries []string) (total int64, err error) {
	for {
		changed, stmts := make([]int64, len(queries)), make([]stmt, len(queries))
		for i, q := range queries {
			stmts[i] = stmt{query: q, affected: &changed[i]}
		}
		if err := s.again(ctx, func(tx db) error { return tx.Batch(ctx, stmts) }); err != nil {
			return total, err
		}
		for _, n := range changed {
			total += n
		}
		if changed[len(changed)-1] < sweepAtOnce {
			return total, nil
		}
	}
}

// some ends a select of the rows that one statement takes. What another process works
// on is left to the next sweep.
func (s *Store) some(order string) string {
	return fmt.Sprintf(` order by `+order+` limit %d`, sweepAtOnce) + s.d.skipLocked
}

// An empty message has the body {}, which no other has.
func (s *Store) emptyMessages() []string {
	return []string{`
		update messages set text = '', body = '{}', sealed = null
		where id in (
			select m.id from messages m
			where m.state <> 'new' and m.body <> '{}' and m.received_at < ` + s.d.in(-keepTexts) + `
				and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')` + s.some(`m.received_at`) + `)`}
}

func (s *Store) emptyReplies() []string {
	return []string{`
		update outbox set text = ''
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text <> '' and updated_at < ` + s.d.in(-keepTexts) + s.some(`updated_at`) + `)`}
}

// removeMessages removes the same messages thrice: their events, their replies, and, of
// which none is left, themselves.
func (s *Store) removeMessages() []string {
	expired := `
		select m.id from messages m
		where m.state <> 'new' and m.body = '{}' and m.received_at < ` + s.d.in(-keepKeys) + `
			and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')
			and not exists (select 1 from outbox o where o.message_id = m.id and o.status in ('queued', 'sending'))` + s.some(`m.received_at`)
	return []string{
		`delete from deliveries where message_id in (` + expired + `)`,
		`delete from outbox where message_id in (` + expired + `)`,
		`delete from messages where id in (` + expired + `) and not exists (select 1 from deliveries d where d.message_id = messages.id)`,
	}
}

// removeReplies removes what answered no message that is here.
func (s *Store) removeReplies() []string {
	return []string{`
		delete from outbox
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text = '' and updated_at < ` + s.d.in(-keepKeys) + s.some(`updated_at`) + `)`}
}

// removeEvents removes deliveries of no message.
func (s *Store) removeEvents() []string {
	return []string{`
		delete from deliveries
		where id in (
			select id from deliveries
			where message_id is null and status <> 'pending' and settled_at < ` + s.d.in(-keepKeys) + s.some(`settled_at`) + `)`}
}
