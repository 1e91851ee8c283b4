package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// Outgoing gives the oldest replies of a conversation that wait to be sent. A
// reminder waits for its hour without holding up what comes after it; next is when
// the first such one is due.
func (s *Store) Outgoing(ctx context.Context, l gateway.Lease) (out []gateway.OutboxRow, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var reminder time.Duration
	err = s.db.Batch(ctx, []stmt{
		{query: `
			select o.id, o.instance_id, o.channel, o.recipient, o.place, o.text, o.reply_to, o.cause, o.message_id, o.status, o.attempts, o.maybe, ` + s.d.until("o.due_at") + `, -(` + s.d.until("o.created_at") + `), i.opted_out_at
			from outbox o
			join conversations c on c.tenant_id = o.tenant_id and c.id = o.conversation_id
			left join identities i on i.tenant_id = c.tenant_id and i.id = c.identity_id
			where o.tenant_id = $1 and o.conversation_id = $2 and o.status in ('queued', 'sending')
				and (o.cause <> 'reminder' or o.due_at <= ` + s.d.now + `)
			order by o.seq limit $3`, args: []any{l.TenantID, l.ConversationID, gateway.FetchMost},
			read: into(&out, func(sc scan) (gateway.OutboxRow, error) { return s.scanOutbox(sc, l) })},
		{query: `select ` + s.d.until("min(due_at)") + ` from outbox where tenant_id = $1 and conversation_id = $2 and status = 'queued' and cause = 'reminder'`, args: []any{l.TenantID, l.ConversationID},
			read: func(rs rows) error {
				_, err := one(rs, nil, func(sc scan) (struct{}, error) { return struct{}{}, sc(age(&reminder)) })
				return err
			}},
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read replies to send: %w", err)
	}
	if reminder > 0 {
		next = time.Now().Add(reminder)
	}
	return out, next, nil
}

func (s *Store) scanOutbox(sc scan, l gateway.Lease) (gateway.OutboxRow, error) {
	o := gateway.OutboxRow{TenantID: l.TenantID, ConversationID: l.ConversationID}
	var channel, place, status string
	var optedOut time.Time
	err := sc(&o.ID, &o.InstanceID, &channel, &o.Recipient, &place, &o.Text, text(&o.ReplyTo), &o.Cause, text(&o.MessageID), &status, &o.Attempts, &o.Maybe, age(&o.Wait), age(&o.Age), utc(&optedOut))
	if err != nil {
		return o, err
	}
	o.Channel, o.Status, o.OptedOut = adapters.Channel(channel), adapters.Status(status), !optedOut.IsZero()
	plain, _, err := s.keys.Open(place, bind(l.TenantID, "outbox.place", o.ID))
	if err == nil {
		err = json.Unmarshal(plain, &o.Place)
	}
	o.Fault = err
	return o, nil
}

// sealPlace seals a place: it may hold an address that works without a password.
func (s *Store) sealPlace(tenant, id string, p adapters.Place) (string, error) {
	b, err := json.Marshal(p)
	return s.keys.Seal(b, bind(tenant, "outbox.place", id)), err
}

func (s *Store) outboxStmts(st gateway.Settlement) ([]stmt, error) {
	var stmts []stmt
	now := s.now()
	wakes := map[string]time.Duration{}
	for _, o := range st.Replies {
		place, err := s.sealPlace(o.TenantID, o.ID, o.Place)
		if err != nil {
			return nil, err
		}
		row := `$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ` + s.d.after("$12") + `, ` + s.d.now + `, ` + s.d.now
		args := []any{o.ID, o.TenantID, o.ConversationID, o.InstanceID, string(o.Channel), o.Recipient, place, o.Text, orNull(o.ReplyTo), o.Cause, orNull(o.MessageID), o.Wait.Seconds()}
		rows := `values (` + row + `)`
		if o.AtMost > 0 {
			rows = `
			select ` + row + ` where $13 > (
				select count(*) from outbox
				where tenant_id = $2 and conversation_id = $3 and cause = $10 and created_at > ` + s.d.in(-int(time.Hour/time.Second)) + `)`
			args = append(args, o.AtMost)
		}
		stmts = append(stmts, stmt{query: `
			insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, reply_to, cause, message_id, due_at, created_at, updated_at)
			` + rows, args: args})
		if w, ok := wakes[o.ConversationID]; !ok || o.Wait < w {
			wakes[o.ConversationID] = o.Wait
		}
	}
	stmts = append(stmts, s.wakeOutbox(st.Lease.TenantID, wakes)...)
	if u := st.Unreachable; u != nil {
		column := "blocked_at"
		if u.OptedOut {
			column = "opted_out_at"
		}
		stmts = append(stmts, stmt{query: `
			update identities set ` + column + ` = $3, updated_at = $3
			where tenant_id = $1 and id = (select identity_id from conversations where tenant_id = $1 and id = $2)`,
			args: []any{st.Lease.TenantID, u.ConversationID, now}})
		if u.Doubt != "" {
			stmts = append(stmts, doubtStmts(u.Doubt, now, st.Lease.TenantID, `select identity_id from conversations where tenant_id = $1 and id = $2`, u.ConversationID)...)
		}
	}
	for _, r := range st.SendDone {
		ss, err := s.sendStmts(st.Lease.TenantID, r, now)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, ss...)
	}
	return stmts, nil
}

// wakeOutbox announces replies, in one order everywhere, so that no two wait for each
// other.
func (s *Store) wakeOutbox(tenant string, wakes map[string]time.Duration) []stmt {
	var stmts []stmt
	for _, c := range slices.Sorted(maps.Keys(wakes)) {
		stmts = append(stmts, s.wakeLane(gateway.OutboxLane, tenant, c, wakes[c]))
	}
	return stmts
}

func (s *Store) sendStmts(tenant string, r gateway.SendResult, now time.Time) ([]stmt, error) {
	id := r.Row.ID
	switch r.Status {
	case gateway.Sending:
		return []stmt{{query: `update outbox set status = 'sending', attempts = attempts + 1, updated_at = $3 where tenant_id = $1 and id = $2`, args: []any{tenant, id, now}}}, nil
	case adapters.Queued:
		place, err := s.sealPlace(tenant, id, r.Row.Place)
		if err != nil {
			return nil, err
		}
		return []stmt{{query: `
			update outbox set status = 'queued', due_at = ` + s.d.after("$3") + `, reason = $4, code = $5, place = $6, maybe = $7, updated_at = $8
			where tenant_id = $1 and id = $2`, args: []any{tenant, id, r.Wait.Seconds(), orNull(string(r.Reason)), orNull(r.Code), place, r.Maybe, now}}}, nil
	case adapters.Sent:
		return []stmt{
			{query: `update outbox set status = 'sent', provider_id = $3, reason = null, code = null, updated_at = $4 where tenant_id = $1 and id = $2`, args: []any{tenant, id, orNull(r.ProviderID), now}},
			// The channel's own word on it may have come before this one.
			receiptStmt(tenant, r.Row.InstanceID, r.Row.Channel, r.ProviderID, now),
		}, nil
	}
	return []stmt{{query: `update outbox set status = $3, reason = $4, code = $5, updated_at = $6 where tenant_id = $1 and id = $2`,
		args: []any{tenant, id, string(r.Status), orNull(string(r.Reason)), orNull(r.Code), now}}}, nil
}

// receiptStmt puts what the channel said of a reply on the reply.
func receiptStmt(tenant, instance string, channel adapters.Channel, providerID string, now time.Time) stmt {
	return stmt{query: `
		update outbox set
			status = coalesce((select r.status from receipts r where r.tenant_id = $1 and r.instance_id = $2 and r.channel = $3 and r.provider_id = $4 and r.rank > 2), status),
			code = coalesce((select nullif(r.code, '') from receipts r where r.tenant_id = $1 and r.instance_id = $2 and r.channel = $3 and r.provider_id = $4), code),
			updated_at = $5
		where tenant_id = $1 and instance_id = $2 and channel = $3 and provider_id = $4`,
		args: []any{tenant, instance, string(channel), providerID, now}}
}

// Receive stores what a channel says of replies sent earlier. Receipts come twice,
// out of order, and before the reply's own id is stored.
func (s *Store) Receive(ctx context.Context, ep adapters.Endpoint, rs []adapters.Receipt) error {
	var stmts []stmt
	now := s.now()
	for _, r := range rs {
		stmts = append(stmts,
			stmt{query: `
				insert into receipts (tenant_id, instance_id, channel, provider_id, status, rank, code, at)
				values ($1, $2, $3, $4, $5, $6, $7, $8)
				on conflict (instance_id, channel, provider_id) do update set status = excluded.status, rank = excluded.rank, code = excluded.code, at = excluded.at
				where receipts.rank < excluded.rank`,
				args: []any{ep.TenantID, ep.InstanceID, string(ep.Channel), r.ProviderID, string(r.Status), r.Status.Rank(), r.Code, now}},
			receiptStmt(ep.TenantID, ep.InstanceID, ep.Channel, r.ProviderID, now))
		if r.Gone {
			// A receipt that came before the reply's own id tells nothing; the next one will.
			stmts = append(stmts, doubtStmts(identity.Terminated, now, ep.TenantID, `
				select c.identity_id from outbox o
				join conversations c on c.tenant_id = o.tenant_id and c.id = o.conversation_id
				where o.tenant_id = $1 and o.instance_id = $2 and o.channel = $3 and o.provider_id = $4 and not c.is_group
				limit 1`, ep.InstanceID, string(ep.Channel), r.ProviderID)...)
		}
	}
	if err := s.db.Batch(ctx, stmts); err != nil {
		return fmt.Errorf("store receipts: %w", err)
	}
	return nil
}
