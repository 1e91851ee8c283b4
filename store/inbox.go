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

// InsertMessages stores arrivals in one transaction, each with its conversation and a word to
// the worker; what is stored already is left as it is. It gives how many were new.
// With a cursor, the poller's place moves in the same transaction, under its epoch:
// gateway.ErrLeaseLost. Data that the database refuses gives gateway.ErrUnstorable,
// any other answer of it gateway.ErrRejected; no answer, gateway.ErrAway.
func (s *Store) InsertMessages(ctx context.Context, as []gateway.IncomingMessage, c *gateway.Cursor) (stored int, err error) {
	stmts, err := s.insertStmts(as, c, &stored)
	if err != nil {
		return 0, err
	}
	if len(stmts) == 0 {
		return 0, nil
	}
	err = s.ingestDB.Batch(ctx, stmts)
	if err != nil && s.dialect.IsForeignKeyViolation(err) && s.conversations.reset() {
		return s.InsertMessages(ctx, as, c)
	}
	switch {
	case err == nil:
		s.conversations.add(as)
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

func (s *Store) insertStmts(as []gateway.IncomingMessage, c *gateway.Cursor, stored *int) ([]sqldb.Statement, error) {
	stmts := make([]sqldb.Statement, 0, 8)
	if c != nil {
		stmts = append(stmts, cursorStmt(c))
	}
	// Conversations are locked in one order everywhere, and before their messages:
	// so no two batches wait for each other, and the order of seq, which is drawn under
	// the lock, is the order of commits in a conversation. The ids and times of messages
	// tell no order: they are made before the lock, and whoever is first there may have
	// begun last.
	lanes := distinctConversations(as)
	for chunk := range chunks(s.unseenConversations(lanes)) {
		stmts = append(stmts, s.insertConversationsStmt(chunk))
	}
	for chunk := range chunks(lanes) {
		stmts = append(stmts, s.wakeInboxStmt(chunk))
	}
	for chunk := range chunks(as) {
		messages, err := s.insertMessagesStmt(chunk)
		if err != nil {
			return nil, err
		}
		messages.Read = func(rs sqldb.Rows) error {
			ids, err := sqldb.ScanAll(rs, nil, sqldb.ScanString)
			*stored += len(ids)
			return err
		}
		stmts = append(stmts, messages)
	}
	return stmts, nil
}

// chunks cuts a slice into pieces of 64, 32, … 1, so that there are few statements to
// be prepared whatever the length of a batch is.
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

// distinctConversations gives one arrival of each conversation, in order of conversation.
func distinctConversations(as []gateway.IncomingMessage) []*gateway.IncomingMessage {
	each := make([]*gateway.IncomingMessage, len(as))
	for i := range as {
		each[i] = &as[i]
	}
	slices.SortFunc(each, func(a, b *gateway.IncomingMessage) int { return cmp.Compare(a.ConversationID, b.ConversationID) })
	return slices.CompactFunc(each, func(a, b *gateway.IncomingMessage) bool { return a.ConversationID == b.ConversationID })
}

func cursorStmt(c *gateway.Cursor) sqldb.Statement {
	return sqldb.Statement{Query: `
		update endpoints set poll_cursor = $3,
			poll_epoch = case when poll_epoch = $4 and poll_holder = $5 then poll_epoch else -1 end
		where tenant_id = $1 and id = $2`,
		Args: []any{c.TenantID, c.EndpointID, c.Value, c.Epoch, c.Holder}}
}

// unseenConversations gives those whose conversation this process has not seen yet.
func (s *Store) unseenConversations(as []*gateway.IncomingMessage) []*gateway.IncomingMessage {
	var out []*gateway.IncomingMessage
	for _, a := range as {
		if !s.conversations.has(a.ConversationID) {
			out = append(out, a)
		}
	}
	return out
}

func (s *Store) insertConversationsStmt(as []*gateway.IncomingMessage) sqldb.Statement {
	var v rowValues
	now := s.now()
	for _, a := range as {
		v.add(a.ConversationID, a.TenantID, a.InstanceID, string(a.Channel), a.Message.Chat.ID, a.Message.Chat.Group, now)
	}
	return sqldb.Statement{Query: `
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		values ` + v.String() + ` on conflict do nothing`, Args: v.args}
}

func (s *Store) wakeInboxStmt(as []*gateway.IncomingMessage) sqldb.Statement {
	var v rowValues
	for _, a := range as {
		v.add(a.ConversationID, string(gateway.InboxQueue), a.TenantID, rawSQL(s.dialect.Now))
	}
	return s.wakeStmt(v)
}

// wakeStmt makes lanes due, by the database's clock, and counts that it did, so that a
// holder who is about to give a lane back sees that something came.
func (s *Store) wakeStmt(v rowValues) sqldb.Statement {
	return sqldb.Statement{Query: `
		insert into lanes (conversation_id, kind, tenant_id, due_at)
		values ` + v.String() + `
		on conflict (conversation_id, kind) do update set due_at = ` + s.dialect.Least("lanes.due_at", "excluded.due_at") + `, wakes = lanes.wakes + 1`, Args: v.args}
}

func (s *Store) insertMessagesStmt(as []gateway.IncomingMessage) (sqldb.Statement, error) {
	var v rowValues
	// Messages that come late were received before now: by how much, the clock of the
	// process that took them knows, and what time it is, the database.
	late := slices.ContainsFunc(as, func(a gateway.IncomingMessage) bool { return a.Age > 0 })
	for _, a := range as {
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
		row := []any{a.ID, a.TenantID, a.ConversationID, a.InstanceID, string(a.Channel), m.Key, sqldb.TextOrNull(m.AltKey), string(m.Kind), m.Sender.ID, body, m.Text, sealed}
		if late {
			row = append(row, timeAgo{s.dialect, max(0, a.Age)})
		}
		v.add(row...)
	}
	columns := `id, tenant_id, conversation_id, instance_id, channel, key, alt_key, kind, sender_id, body, text, sealed`
	if late {
		columns += `, received_at`
	}
	return sqldb.Statement{Query: `
		insert into messages (` + columns + `)
		values ` + v.String() + ` on conflict do nothing returning id`, Args: v.args}, nil
}

// messageBody is a message as it is kept in one column: all but what has a column of
// its own.
func messageBody(m adapters.Message) (string, error) {
	m.Text, m.Raw, m.Key, m.AltKey = "", nil, "", ""
	b, err := json.Marshal(m)
	return string(b), err
}

// rowValues builds "($1, $2), ($3, $4)" for an insert of many rows.
type rowValues struct {
	sql  strings.Builder
	args []any
}

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
		case timeAgo:
			v.args = append(v.args, -a.age.Truncate(time.Millisecond).Seconds())
			v.sql.WriteString(a.dialect.NowPlusExpr("$" + strconv.Itoa(len(v.args))))
		default:
			v.args = append(v.args, a)
			v.sql.WriteString("$" + strconv.Itoa(len(v.args)))
		}
	}
	v.sql.WriteByte(')')
}

// rawSQL stands in a row as it is, such as the database's clock.
type rawSQL string

// timeAgo stands in a row for the time so long before now, by the database's clock.
type timeAgo struct {
	dialect sqldb.Dialect
	age     time.Duration
}

func (v *rowValues) String() string { return v.sql.String() }

// seenConversations remembers which conversations exist, to spare their insert. It forgets all
// when it is full, or when the database says it was wrong.
type seenConversations struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

const maxSeenConversations = 100_000

func (k *seenConversations) has(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.ids[id]
	return ok
}

func (k *seenConversations) add(as []gateway.IncomingMessage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids) > maxSeenConversations {
		k.ids = map[string]struct{}{}
	}
	for _, a := range as {
		k.ids[a.ConversationID] = struct{}{}
	}
}

// reset forgets everything and reports whether there was anything to forget.
func (k *seenConversations) reset() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	some := len(k.ids) > 0
	k.ids = nil
	return some
}
