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
)

// Take stores arrivals in one transaction, each with its conversation and a word to
// the worker; what is stored already is left as it is. It gives how many were new.
// With a cursor, the poller's place moves in the same transaction, under its epoch:
// gateway.ErrLeaseLost. Data that the database refuses gives gateway.ErrUnstorable,
// any other answer of it gateway.ErrRejected; no answer, gateway.ErrAway.
func (s *Store) Take(ctx context.Context, as []gateway.Arrival, c *gateway.Cursor) (stored int, err error) {
	stmts, err := s.takeStmts(as, c, &stored)
	if err != nil {
		return 0, err
	}
	if len(stmts) == 0 {
		return 0, nil
	}
	err = s.front.Batch(ctx, stmts)
	if err != nil && s.d.orphan(err) && s.conversations.clear() {
		return s.Take(ctx, as, c)
	}
	switch {
	case err == nil:
		s.conversations.add(as)
		return stored, nil
	case s.d.violates(err, "endpoints_poll"):
		return 0, gateway.ErrLeaseLost
	case s.d.unstorable(err):
		return 0, fmt.Errorf("%w: %w", gateway.ErrUnstorable, err)
	case s.d.away(err):
		return 0, fmt.Errorf("store messages: %w: %w", gateway.ErrAway, err)
	case s.d.answered(err):
		return 0, fmt.Errorf("%w: %w", gateway.ErrRejected, err)
	}
	return 0, fmt.Errorf("store messages: %w", err)
}

func (s *Store) takeStmts(as []gateway.Arrival, c *gateway.Cursor, stored *int) ([]stmt, error) {
	stmts := make([]stmt, 0, 8)
	if c != nil {
		stmts = append(stmts, cursorStmt(c))
	}
	// Conversations are locked in one order everywhere, and before their messages:
	// so no two batches wait for each other, and the order of seq, which is drawn under
	// the lock, is the order of commits in a conversation. The ids and times of messages
	// tell no order: they are made before the lock, and whoever is first there may have
	// begun last.
	lanes := conversationsOf(as)
	for chunk := range chunks(s.unknown(lanes)) {
		stmts = append(stmts, s.newConversations(chunk))
	}
	for chunk := range chunks(lanes) {
		stmts = append(stmts, s.wakeInbox(chunk))
	}
	for chunk := range chunks(as) {
		messages, err := s.insertMessages(chunk)
		if err != nil {
			return nil, err
		}
		messages.read = func(rs rows) error {
			ids, err := all(rs, nil, scanString)
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

// conversationsOf gives one arrival of each conversation, in order of conversation.
func conversationsOf(as []gateway.Arrival) []*gateway.Arrival {
	each := make([]*gateway.Arrival, len(as))
	for i := range as {
		each[i] = &as[i]
	}
	slices.SortFunc(each, func(a, b *gateway.Arrival) int { return cmp.Compare(a.ConversationID, b.ConversationID) })
	return slices.CompactFunc(each, func(a, b *gateway.Arrival) bool { return a.ConversationID == b.ConversationID })
}

func cursorStmt(c *gateway.Cursor) stmt {
	return stmt{query: `
		update endpoints set poll_cursor = $3,
			poll_epoch = case when poll_epoch = $4 and poll_holder = $5 then poll_epoch else -1 end
		where tenant_id = $1 and id = $2`,
		args: []any{c.TenantID, c.EndpointID, c.Value, c.Epoch, c.Holder}}
}

// unknown gives those whose conversation this process has not seen yet.
func (s *Store) unknown(as []*gateway.Arrival) []*gateway.Arrival {
	var out []*gateway.Arrival
	for _, a := range as {
		if !s.conversations.has(a.ConversationID) {
			out = append(out, a)
		}
	}
	return out
}

func (s *Store) newConversations(as []*gateway.Arrival) stmt {
	var v values
	now := s.now()
	for _, a := range as {
		v.row(a.ConversationID, a.TenantID, a.InstanceID, string(a.Channel), a.Message.Place.ID, a.Message.Place.Group, now)
	}
	return stmt{query: `
		insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		values ` + v.String() + ` on conflict do nothing`, args: v.args}
}

func (s *Store) wakeInbox(as []*gateway.Arrival) stmt {
	var v values
	for _, a := range as {
		v.row(a.ConversationID, string(gateway.InboxLane), a.TenantID, sqlText(s.d.now))
	}
	return s.wake(v)
}

// wake makes lanes due, by the database's clock, and counts that it did, so that a
// holder who is about to give a lane back sees that something came.
func (s *Store) wake(v values) stmt {
	return stmt{query: `
		insert into lanes (conversation_id, kind, tenant_id, due_at)
		values ` + v.String() + `
		on conflict (conversation_id, kind) do update set due_at = ` + s.d.least("lanes.due_at", "excluded.due_at") + `, wakes = lanes.wakes + 1`, args: v.args}
}

func (s *Store) insertMessages(as []gateway.Arrival) (stmt, error) {
	var v values
	// Messages that come late were received before now: by how much, the clock of the
	// process that took them knows, and what time it is, the database.
	late := slices.ContainsFunc(as, func(a gateway.Arrival) bool { return a.Age > 0 })
	for _, a := range as {
		var sealed any
		if a.Secret != nil {
			plain, err := json.Marshal(a.Secret)
			if err != nil {
				return stmt{}, err
			}
			sealed = s.keys.Seal(plain, bind(a.TenantID, "messages.sealed", a.ID))
		}
		m := a.Message
		body, err := messageBody(m)
		if err != nil {
			return stmt{}, err
		}
		row := []any{a.ID, a.TenantID, a.ConversationID, a.InstanceID, string(a.Channel), m.Key, orNull(m.AltKey), string(m.Kind), m.Sender.ID, body, m.Text, sealed}
		if late {
			row = append(row, ago{s.d, max(0, a.Age)})
		}
		v.row(row...)
	}
	columns := `id, tenant_id, conversation_id, instance_id, channel, key, alt_key, kind, sender_id, body, text, sealed`
	if late {
		columns += `, received_at`
	}
	return stmt{query: `
		insert into messages (` + columns + `)
		values ` + v.String() + ` on conflict do nothing returning id`, args: v.args}, nil
}

// messageBody is a message as it is kept in one column: all but what has a column of
// its own.
func messageBody(m adapters.Message) (string, error) {
	m.Text, m.Raw, m.Key, m.AltKey = "", nil, "", ""
	b, err := json.Marshal(m)
	return string(b), err
}

// values builds "($1, $2), ($3, $4)" for an insert of many rows.
type values struct {
	b    strings.Builder
	args []any
}

func (v *values) row(args ...any) {
	if v.args == nil {
		v.args = make([]any, 0, 64*len(args))
		v.b.Grow(64 * 4 * len(args))
	}
	if v.b.Len() > 0 {
		v.b.WriteString(", ")
	}
	for i, a := range args {
		sep := ", "
		if i == 0 {
			sep = "("
		}
		v.b.WriteString(sep)
		switch a := a.(type) {
		case sqlText:
			v.b.WriteString(string(a))
		case ago:
			v.args = append(v.args, -a.age.Truncate(time.Millisecond).Seconds())
			v.b.WriteString(a.d.after("$" + strconv.Itoa(len(v.args))))
		default:
			v.args = append(v.args, a)
			v.b.WriteString("$" + strconv.Itoa(len(v.args)))
		}
	}
	v.b.WriteByte(')')
}

// sqlText stands in a row as it is, such as the database's clock.
type sqlText string

// ago stands in a row for the time so long before now, by the database's clock.
type ago struct {
	d   dialect
	age time.Duration
}

func (v *values) String() string { return v.b.String() }

// known remembers which conversations exist, to spare their insert. It forgets all
// when it is full, or when the database says it was wrong.
type known struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

const maxKnown = 100_000

func (k *known) has(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.ids[id]
	return ok
}

func (k *known) add(as []gateway.Arrival) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids) > maxKnown {
		k.ids = map[string]struct{}{}
	}
	for _, a := range as {
		k.ids[a.ConversationID] = struct{}{}
	}
}

// clear forgets everything and reports whether there was anything to forget.
func (k *known) clear() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	some := len(k.ids) > 0
	k.ids = nil
	return some
}
