package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// InsertMessages stores incoming messages with their conversations and makes their inbox queues
// due, all in one transaction. Messages that are stored already are skipped. A message from an alias is
// one of the account. It returns the number of new messages. If c is not nil, the poller's cursor is
// advanced in the same transaction, fenced by its epoch.
//
// It returns gateway.ErrLeaseLost if the poller no longer holds its lease, and otherwise errors
// that match gateway.ErrUnstorable if the database rejects the data, gateway.ErrUnavailable if it
// cannot run the statements, and gateway.ErrRejected for any other error of the database.
func (s *Store) InsertMessages(
	ctx context.Context, messages []gateway.IncomingMessage, c *gateway.Cursor,
) (stored int, err error) {
	var ids [][]string
	received := messages
	err = s.recordMoves(ctx, received)
	var aliases []sqldb.Statement
	if err == nil {
		messages, aliases, err = s.resolveAliases(ctx, received)
	}
	if err == nil {
		messages = s.moves.apply(messages)
		var clock databaseClock
		if slices.ContainsFunc(messages, wasReceivedEarlier) {
			clock, err = s.readClock(ctx)
		}
		if err == nil {
			var stmts []sqldb.Statement
			if stmts, err = s.insertStmts(messages, c, clock, &ids); err != nil {
				return 0, err
			}
			if len(stmts) == 0 {
				return 0, nil
			}
			err = s.ingestDB.Batch(ctx, append(aliases, stmts...))
		}
	}
	if err != nil && s.dialect.IsForeignKeyViolation(err) && s.conversations.reset() {
		return s.InsertMessages(ctx, received, c)
	}
	if err != nil && s.dialect.IsCheckViolation(err, "lanes_moved") {
		var found bool
		if found, err = s.readMoves(ctx, messages, err); found {
			return s.InsertMessages(ctx, received, c)
		}
	}
	switch {
	case err == nil:
		s.conversations.add(messages)
		for _, chunk := range ids {
			stored += len(chunk)
		}
		return stored, nil
	case s.dialect.IsCheckViolation(err, "endpoints_poll"):
		return 0, gateway.ErrLeaseLost
	case s.dialect.IsUnstorable(err):
		return 0, fmt.Errorf("%w: %w", gateway.ErrUnstorable, err)
	case s.dialect.IsUnavailable(err):
		return 0, fmt.Errorf("store messages: %w: %w", gateway.ErrUnavailable, err)
	case s.dialect.IsDatabaseError(err):
		return 0, fmt.Errorf("%w: %w", gateway.ErrRejected, err)
	}
	return 0, fmt.Errorf("store messages: %w", err)
}

// insertStmts returns the statements of InsertMessages, which set *stored to the IDs of the new
// messages, in chunks.
func (s *Store) insertStmts(
	messages []gateway.IncomingMessage, c *gateway.Cursor, clock databaseClock, stored *[][]string,
) ([]sqldb.Statement, error) {
	stmts := make([]sqldb.Statement, 0, 8)
	if c != nil {
		stmts = append(stmts, cursorStmt(c))
	}
	// Conversations are locked in order of ID, and before their messages are inserted.
	// Batches therefore do not deadlock, and the order of seq, which is assigned under the
	// lock, is the order of commits within a conversation. The IDs and times of messages do
	// not have that order, because they are assigned before the lock.
	conversations := distinctConversations(messages)
	for chunk := range chunks(s.unseenConversations(conversations)) {
		stmts = append(stmts, s.insertConversationsStmt(chunk))
	}
	for chunk := range chunks(conversations) {
		stmts = append(stmts, s.wakeInboxStmt(chunk))
	}
	messageChunks := slices.Collect(chunks(messages))
	*stored = make([][]string, len(messageChunks))
	for i, chunk := range messageChunks {
		insert, err := s.insertMessagesStmt(chunk, clock)
		if err != nil {
			return nil, err
		}
		insert.Read = sqldb.ScanInto(&(*stored)[i], sqldb.ScanString)
		stmts = append(stmts, insert)
	}
	return stmts, nil
}

// chunks splits a slice into pieces of 64, 32, … 1 elements, so that few distinct statements are
// prepared for batches of any length.
func chunks[T any](all []T) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for size := 64; len(all) > 0; size /= 2 {
			for len(all) >= size {
				if !yield(all[:size]) {
					return
				}
				all = all[size:]
			}
		}
	}
}

// distinctConversations returns one message of each conversation, in order of conversation ID.
func distinctConversations(messages []gateway.IncomingMessage) []*gateway.IncomingMessage {
	first := make([]*gateway.IncomingMessage, len(messages))
	for i := range messages {
		first[i] = &messages[i]
	}
	slices.SortFunc(first,
		func(a, b *gateway.IncomingMessage) int { return cmp.Compare(a.ConversationID, b.ConversationID) })
	return slices.CompactFunc(first,
		func(a, b *gateway.IncomingMessage) bool { return a.ConversationID == b.ConversationID })
}

// cursorStmt advances a poller's cursor. It violates a check constraint if the lease is lost.
func cursorStmt(c *gateway.Cursor) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		update endpoints set poll_cursor = $3,
			poll_epoch = case when poll_epoch = $4 and poll_holder = $5 then poll_epoch else -1 end
		where tenant_id = $1 and id = $2`,
		Args: []any{c.TenantID, c.EndpointID, c.Value, c.Epoch, c.Holder},
	}
}

// unseenConversations returns the messages whose conversations are not known to exist.
func (s *Store) unseenConversations(messages []*gateway.IncomingMessage) []*gateway.IncomingMessage {
	var unseen []*gateway.IncomingMessage
	for _, a := range messages {
		if !s.conversations.has(a.ConversationID) {
			unseen = append(unseen, a)
		}
	}
	return unseen
}

// insertConversationsStmt inserts the conversations of messages unless they exist.
func (s *Store) insertConversationsStmt(messages []*gateway.IncomingMessage) sqldb.Statement {
	var v rowValues
	now := s.now()
	for _, a := range messages {
		v.add(a.ConversationID, a.TenantID, a.InstanceID, string(a.Channel), a.Message.Chat.ID, a.Message.Chat.Group, now)
	}
	return sqldb.Statement{Query: `
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		values ` + v.String() + ` on conflict do nothing`, Args: v.args}
}

// wakeInboxStmt makes the inbox queues of the messages due.
func (s *Store) wakeInboxStmt(messages []*gateway.IncomingMessage) sqldb.Statement {
	var v rowValues
	for _, a := range messages {
		v.add(a.ConversationID, string(gateway.InboxQueue), a.TenantID, rawSQL(s.dialect.Now))
	}
	return s.wakeStmt(v)
}

// wakeStmt makes queues due, by the clock of the database, and increments their wake counters. A
// worker that releases a queue sees by the counter that something was added.
func (s *Store) wakeStmt(v rowValues) sqldb.Statement {
	return sqldb.Statement{Query: `
		insert into lanes (conversation_id, kind, tenant_id, due_at)
		values ` + v.String() + `
		on conflict (conversation_id, kind) do update set due_at = ` + s.dialect.Least("lanes.due_at", "excluded.due_at") +
		`, wakes = lanes.wakes + 1`, Args: v.args}
}

// A databaseClock is a reading of the clock of the database. A duration that this process measured
// must not be subtracted in a statement from the time at which the database executes it: that may be
// seconds later, when the database responds again.
type databaseClock struct {
	now    time.Time // by the database
	readAt time.Time // by this process, before the database was asked
}

// maxClockReading is how long a reading of the clock of the database may take, if a shorter one can be
// had.
const maxClockReading = 100 * time.Millisecond

func (s *Store) readClock(ctx context.Context) (c databaseClock, err error) {
	for range 3 {
		c.readAt = time.Now()
		rs, err := s.ingestDB.Query(ctx, `select `+s.dialect.Now)
		if c.now, err = sqldb.ScanOne(rs, err, func(sc sqldb.ScanFunc) (t time.Time, err error) {
			err = sc(sqldb.Time(&t))
			return t, err
		}); err != nil {
			return c, fmt.Errorf("read the clock of the database: %w", err)
		}
		if time.Since(c.readAt) < maxClockReading {
			break
		}
	}
	return c, nil
}

// timeOf returns the time t of this process by the clock of the database, and never an earlier one.
func (c databaseClock) timeOf(t time.Time) time.Time {
	return c.now.Add(-max(0, c.readAt.Sub(t))).UTC()
}

// wasReceivedEarlier reports whether a message waited in the spool.
func wasReceivedEarlier(a gateway.IncomingMessage) bool { return !a.ReceivedAt.IsZero() }

// insertMessagesStmt inserts messages and returns the IDs of new ones. Secrets are encrypted.
func (s *Store) insertMessagesStmt(
	messages []gateway.IncomingMessage, clock databaseClock,
) (sqldb.Statement, error) {
	var v rowValues
	earlier := slices.ContainsFunc(messages, wasReceivedEarlier)
	for _, a := range messages {
		var sealed any
		if a.Secret != nil {
			plain, err := json.Marshal(a.Secret)
			if err != nil {
				return sqldb.Statement{}, err
			}
			sealed = s.keys.Seal(plain, keyring.AssociatedData(a.TenantID, "messages.sealed", a.ID))
		}
		m := a.Message
		body, err := messageBody(m)
		if err != nil {
			return sqldb.Statement{}, err
		}
		row := []any{
			a.ID, a.TenantID, a.ConversationID, a.InstanceID, string(a.Channel), m.Key, sqldb.TextOrNull(m.AltKey),
			string(m.Kind), m.Sender.ID, body, m.Text, sealed,
		}
		switch {
		case wasReceivedEarlier(a):
			row = append(row, clock.timeOf(a.ReceivedAt))
		case earlier:
			row = append(row, rawSQL(s.dialect.Now))
		}
		v.add(row...)
	}
	columns := `id, tenant_id, conversation_id, instance_id, channel, key, alt_key, kind, sender_id, body, text, sealed`
	if earlier {
		columns += `, received_at`
	}
	return sqldb.Statement{Query: `
		insert into messages (` + columns + `)
		values ` + v.String() + ` on conflict do nothing returning id`, Args: v.args}, nil
}

// messageBody returns a message as JSON without the fields that have their own columns.
func messageBody(m adapters.Message) (string, error) {
	m.Text, m.Raw, m.Key, m.AltKey = "", nil, "", ""
	b, err := json.Marshal(m)
	return string(b), err
}

// rowValues builds the list "($1, $2), ($3, $4)" for an insert of several rows.
type rowValues struct {
	sql  strings.Builder
	args []any
}

// add appends a row. Values of type rawSQL become expressions, others placeholders.
func (v *rowValues) add(args ...any) {
	if v.args == nil {
		v.args = make([]any, 0, 64*len(args))
		v.sql.Grow(64 * 4 * len(args))
	}
	if v.sql.Len() > 0 {
		v.sql.WriteString(", ")
	}
	for i, a := range args {
		sep := ", "
		if i == 0 {
			sep = "("
		}
		v.sql.WriteString(sep)
		switch a := a.(type) {
		case rawSQL:
			v.sql.WriteString(string(a))
		default:
			v.args = append(v.args, a)
			v.sql.WriteString("$" + strconv.Itoa(len(v.args)))
		}
	}
	v.sql.WriteByte(')')
}

// rawSQL is a value of rowValues that is inserted as an expression.
type rawSQL string

func (v *rowValues) String() string { return v.sql.String() }

// seenConversations is a set of conversations that are known to exist, so that they need not be
// inserted again. It is cleared when it is full or turned out to be outdated.
type seenConversations struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// maxSeenConversations limits the memory of seenConversations.
const maxSeenConversations = 100_000

// has reports whether a conversation is in the set.
func (k *seenConversations) has(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.ids[id]
	return ok
}

// add adds the conversations of messages to the set.
func (k *seenConversations) add(messages []gateway.IncomingMessage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids) > maxSeenConversations {
		k.ids = map[string]struct{}{}
	}
	for _, a := range messages {
		k.ids[a.ConversationID] = struct{}{}
	}
}

// reset clears the set and reports whether it contained anything.
func (k *seenConversations) reset() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	cleared := len(k.ids) > 0
	k.ids = nil
	return cleared
}
