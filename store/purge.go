package store

import (
	"context"
	"fmt"

	"hydragate/store/sqldb"
)

// daySeconds is the length of a day in seconds.
const daySeconds = 24 * 60 * 60

// Retention periods in seconds, by the clock of the database.
const (
	textRetention = 30 * daySeconds // texts of messages and replies
	rowRetention  = 90 * daySeconds // rows of messages, whose keys identify redeliveries
)

// purgeBatch is the maximum number of rows that one statement changes, so that other transactions
// do not wait long for its locks.
const purgeBatch = 1000

// Purge removes old data and returns the number of changed rows. Texts of messages and replies are
// cleared after 30 days and their rows deleted after 90 days, with the rows that refer to them, if
// the message is processed and nothing is left to be delivered or sent. Previous secrets are
// deleted when their grace period ends; idempotency keys after a day; failed claim attempts after
// two days; aliases of accounts without an identity after a day; archived merged customers after 30
// days; receipts, finished deliveries and expired invites after 90 days. Unknown senders are erased
// after the period of their tenant without a message. Rows are deleted in batches with a transaction
// each.
func (s *Store) Purge(ctx context.Context) (int64, error) {
	var total int64
	for _, queries := range [][]string{
		{`delete from idempotency_keys where created_at < ` + s.dialect.NowPlus(-daySeconds)},
		{`delete from retired_secrets where until <= ` + s.dialect.Now},
		{`delete from claim_failures where at < ` + s.dialect.NowPlus(-2*daySeconds)},
		{`delete from invites where expires_at < ` + s.dialect.NowPlus(-90*daySeconds)},
		{`delete from receipts where at < ` + s.dialect.NowPlus(-90*daySeconds)},
		{`delete from aliases where created_at < ` + s.dialect.NowPlus(-daySeconds) + ` and not exists (
			select 1 from identities i
			where i.tenant_id = aliases.tenant_id and i.channel = aliases.channel and i.external_id = aliases.external_id)`},
		{`delete from merged_customers where id in (select customer_id from customer_merges where merged_at < ` +
			s.dialect.NowPlus(-30*daySeconds) + `)`},
		{`delete from merged_identities where customer_id in (select customer_id from customer_merges where merged_at < ` +
			s.dialect.NowPlus(-30*daySeconds) + `)`},
		s.clearMessageTexts(), s.clearReplyTexts(), s.deleteMessages(), s.deleteReplies(), s.deleteDeliveries(),
	} {
		n, err := s.runInBatches(ctx, queries)
		total += n
		if err != nil {
			return total, fmt.Errorf("purge: %w", err)
		}
	}
	n, err := s.expireUnknownSenders(ctx)
	if total += n; err != nil {
		return total, fmt.Errorf("purge: %w", err)
	}
	return total, nil
}

// runInBatches runs the statements together, each time in a new transaction, until the last of
// them changes fewer rows than purgeBatch.
func (s *Store) runInBatches(ctx context.Context, queries []string) (total int64, err error) {
	for {
		changed, stmts := make([]int64, len(queries)), make([]sqldb.Statement, len(queries))
		for i, q := range queries {
			stmts[i] = sqldb.Statement{Query: q, RowsAffected: &changed[i]}
		}
		if err := s.db.InTx(ctx, func(tx sqldb.DB) error { return tx.Batch(ctx, stmts) }); err != nil {
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

// batchLimit returns the end of a select of the rows that one statement changes. Rows that are
// locked by another process are left to the next purge.
func (s *Store) batchLimit(order string) string {
	return fmt.Sprintf(` order by `+order+` limit %d`, purgeBatch) + s.dialect.SkipLocked
}

// clearMessageTexts clears the texts of processed messages. A cleared message has the body {},
// which no other message has.
func (s *Store) clearMessageTexts() []string {
	return []string{`
		update messages set text = '', body = '{}', sealed = null
		where id in (
			select m.id from messages m
			where m.state <> 'new' and m.body <> '{}' and m.received_at < ` + s.dialect.NowPlus(-textRetention) + `
				and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')` +
		s.batchLimit(`m.received_at`) + `)`}
}

// clearReplyTexts clears the texts of sent replies.
func (s *Store) clearReplyTexts() []string {
	return []string{`
		update outbox set text = ''
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text <> '' and updated_at < ` + s.dialect.NowPlus(-textRetention) +
		s.batchLimit(`updated_at`) + `)`}
}

// deleteMessages deletes the events and replies of old messages, and then the messages that have
// no events left. All statements select the same messages.
func (s *Store) deleteMessages() []string {
	expired := `
		select m.id from messages m
		where m.state <> 'new' and m.body = '{}' and m.received_at < ` + s.dialect.NowPlus(-rowRetention) + `
			and not exists (select 1 from deliveries d where d.message_id = m.id and d.status = 'pending')
			and not exists (select 1 from outbox o where o.message_id = m.id and o.status in ('queued', 'sending'))` +
		s.batchLimit(`m.received_at`)
	return []string{
		`delete from deliveries where message_id in (` + expired + `)`,
		`delete from outbox where message_id in (` + expired + `)`,
		`delete from messages where id in (` + expired +
			`) and not exists (select 1 from deliveries d where d.message_id = messages.id)`,
	}
}

// deleteReplies deletes old replies, including those that do not refer to a message.
func (s *Store) deleteReplies() []string {
	return []string{`
		delete from outbox
		where id in (
			select id from outbox
			where status not in ('queued', 'sending') and text = '' and updated_at < ` + s.dialect.NowPlus(-rowRetention) +
		s.batchLimit(`updated_at`) + `)`}
}

// deleteDeliveries deletes old deliveries that do not refer to a message.
func (s *Store) deleteDeliveries() []string {
	return []string{`
		delete from deliveries
		where id in (
			select id from deliveries
			where message_id is null and status <> 'pending' and settled_at < ` + s.dialect.NowPlus(-rowRetention) +
		s.batchLimit(`settled_at`) + `)`}
}

// maxScrubbedAtOnce is the size of the largest SQLite file that is rewritten while a request waits.
// Rewriting takes about a second for 64 MiB, during which nothing can be stored.
const maxScrubbedAtOnce = 64 << 20

// Scrub removes what the erasure and the purge have deleted from the files of an SQLite database.
// Without it, the values would remain readable there.
func (s *Store) Scrub(ctx context.Context) error {
	const anySize = 1 << 60
	if err := s.db.Scrub(ctx, anySize); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	return nil
}

// requestScrub makes Scrub rewrite the file after the transaction of an erasure.
func (s *Store) requestScrub(ctx context.Context, tx sqldb.DB) error {
	if s.dialect.RequestRewrite == "" {
		return nil
	}
	_, err := tx.Exec(ctx, s.dialect.RequestRewrite)
	return err
}

// scrubErased is called after an erasure. If it fails, or the file is large, the next Scrub removes
// the values.
func (s *Store) scrubErased(ctx context.Context) { _ = s.db.Scrub(ctx, maxScrubbedAtOnce) }
