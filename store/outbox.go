package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// maxOtherReplies limits the replies that a look-up of one that may have been sent leaves out.
const maxOtherReplies = 1000

// PendingReplies returns the oldest replies of a leased conversation that are to be sent. A
// reminder that is not yet due does not delay the replies after it; next is the time at which the
// first of these reminders is due, or zero. If the chat of a reply cannot be decrypted, its Err is
// set.
func (s *Store) PendingReplies(
	ctx context.Context, l gateway.Lease,
) (replies []gateway.OutboxRow, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var reminder time.Duration
	var others [][2]string // IDs of replies that may have been sent, and provider's IDs of others like them
	err = s.db.Batch(ctx, []sqldb.Statement{
		{
			Query: `
			select o.id, o.instance_id, o.channel, o.recipient, o.place, o.text, o.reply_to, o.cause, o.message_id, o.status,
				o.attempts, o.maybe, ` + s.dialect.SecondsUntil("o.due_at") + `, -(` + s.dialect.SecondsUntil("o.created_at") + `),
					i.opted_out_at, c.place_id, c.moved_place_id
			from outbox o
			join conversations c on c.tenant_id = o.tenant_id and c.id = o.conversation_id
			left join identities i on i.tenant_id = c.tenant_id and i.id = c.identity_id
			where o.tenant_id = $1 and o.conversation_id = $2 and o.status in ('queued', 'sending')
				and (o.cause <> 'reminder' or o.due_at <= ` + s.dialect.Now + `)
			order by coalesce(o.part_of, o.seq), o.part limit $3`,
			Args: []any{l.TenantID, l.ConversationID, gateway.FetchLimit},
			Read: sqldb.ScanInto(&replies, func(sc sqldb.ScanFunc) (gateway.OutboxRow, error) { return s.scanOutbox(sc, l) }),
		},
		{
			Query: `
			select o.id, x.provider_id from outbox o
			join outbox x on x.tenant_id = o.tenant_id and x.conversation_id = o.conversation_id and x.text = o.text
			where o.tenant_id = $1 and o.conversation_id = $2 and o.status in ('queued', 'sending')
				and (o.maybe or o.status = 'sending') and x.provider_id is not null
			order by x.seq desc limit $3`, Args: []any{l.TenantID, l.ConversationID, maxOtherReplies},
			Read: sqldb.ScanInto(&others, func(sc sqldb.ScanFunc) (o [2]string, err error) {
				return o, sc(sqldb.Text(&o[0]), &o[1])
			}),
		},
		{
			Query: `select ` + s.dialect.SecondsUntil("min(due_at)") +
				` from outbox where tenant_id = $1 and conversation_id = $2 and status = 'queued' and cause = 'reminder'`,
			Args: []any{l.TenantID, l.ConversationID},
			Read: func(rs sqldb.Rows) error {
				_, err := sqldb.ScanOne(rs, nil, func(sc sqldb.ScanFunc) (struct{}, error) {
					return struct{}{},
						sc(sqldb.Seconds(&reminder))
				})
				return err
			},
		},
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read pending replies: %w", err)
	}
	for i := range replies {
		for _, o := range others {
			if o[0] == replies[i].ID {
				replies[i].OtherIDs = append(replies[i].OtherIDs, o[1])
			}
		}
	}
	if reminder > 0 {
		next = time.Now().Add(reminder)
	}
	return replies, next, nil
}

func (s *Store) scanOutbox(sc sqldb.ScanFunc, l gateway.Lease) (gateway.OutboxRow, error) {
	o := gateway.OutboxRow{TenantID: l.TenantID, ConversationID: l.ConversationID}
	var channel, place, status, chatID, movedTo string
	var optedOut time.Time
	err := sc(&o.ID, &o.InstanceID, &channel, &o.Recipient, &place, &o.Text, sqldb.Text(&o.ReplyTo), &o.Cause,
		sqldb.Text(&o.MessageID), &status, &o.Attempts, &o.PossiblySent, sqldb.Seconds(&o.Delay), sqldb.Seconds(&o.Age),
		sqldb.Time(&optedOut), &chatID, sqldb.Text(&movedTo))
	if err != nil {
		return o, err
	}
	o.Channel, o.Status, o.OptedOut = adapters.Channel(channel), adapters.Status(status), !optedOut.IsZero()
	plain, _, err := s.keys.Open(place, keyring.AssociatedData(l.TenantID, "outbox.place", o.ID))
	if err == nil {
		err = json.Unmarshal(plain, &o.Chat)
	}
	o.Err = err
	if movedTo != "" && o.Chat.ID == chatID { // the messages in the chat have other IDs there
		o.Chat.ID, o.ReplyTo = movedTo, ""
	}
	return o, nil
}

// sealChat encrypts a chat, which may contain a reply URL that works without a password.
func (s *Store) sealChat(tenant, id string, chat adapters.Chat) (string, error) {
	b, err := json.Marshal(chat)
	return s.keys.Seal(b, keyring.AssociatedData(tenant, "outbox.place", id)), err
}

// outboxStmts returns the statements that store new replies, unreachable participants and the
// results of sends.
func (s *Store) outboxStmts(st gateway.Commit) ([]sqldb.Statement, error) {
	var stmts []sqldb.Statement
	now := s.now()
	delays := map[string]time.Duration{}
	for _, o := range st.Replies {
		place, err := s.sealChat(o.TenantID, o.ID, o.Chat)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, s.insertReplyStmt(o, place))
		if delay, ok := delays[o.ConversationID]; !ok || o.Delay < delay {
			delays[o.ConversationID] = o.Delay
		}
	}
	stmts = append(stmts, s.limitEventStmts(st.Replies)...)
	stmts = append(stmts, s.wakeOutbox(st.Lease.TenantID, delays)...)
	if u := st.Unreachable; u != nil {
		const recipient = `select identity_id from conversations where tenant_id = $1 and id = $2`
		if u.OptedOut {
			stmts = append(stmts, s.subscriptionStmts(subscription{
				tenant: st.Lease.TenantID, optedOut: true, at: now, identity: recipient, conversation: `$2`,
				args: []any{u.ConversationID},
			})...)
		} else {
			stmts = append(stmts, sqldb.Statement{
				Query: `update identities set blocked_at = $3, updated_at = $3 where tenant_id = $1 and id = (` + recipient + `)`,
				Args:  []any{st.Lease.TenantID, u.ConversationID, now},
			})
		}
		if u.ExpiryReason != "" {
			stmts = append(stmts, expireVerificationStmts(u.ExpiryReason, now, st.Lease.TenantID, recipient,
				u.ConversationID)...)
		}
	}
	for _, r := range st.SendResults {
		ss, err := s.sendStmts(st.Lease.TenantID, r, now)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, ss...)
	}
	return stmts, nil
}

// wakeOutbox makes the outbox queues of conversations due after their delays, in order of
// conversation ID, so that two batches do not deadlock.
func (s *Store) wakeOutbox(tenant string, delays map[string]time.Duration) []sqldb.Statement {
	var stmts []sqldb.Statement
	for _, c := range slices.Sorted(maps.Keys(delays)) {
		stmts = append(stmts, s.wakeQueue(gateway.OutboxQueue, tenant, c, delays[c]))
	}
	return stmts
}

// sendStmts returns the statements that store the result of one send.
func (s *Store) sendStmts(tenant string, r gateway.SendResult, now time.Time) ([]sqldb.Statement, error) {
	id := r.Row.ID
	switch r.Status {
	case gateway.Sending:
		return []sqldb.Statement{{Query: `update outbox set status = 'sending', attempts = attempts + 1, updated_at = $3
			where tenant_id = $1 and id = $2`, Args: []any{tenant, id, now}}}, nil
	case adapters.Queued:
		place, err := s.sealChat(tenant, id, r.Row.Chat)
		if err != nil {
			return nil, err
		}
		stmts, err := s.divideStmts(tenant, r, now)
		if err != nil {
			return nil, err
		}
		return append(stmts, sqldb.Statement{Query: `
			update outbox set status = 'queued', due_at = ` + s.dialect.NowPlusExpr("$3") +
			`, reason = $4, code = $5, place = $6, maybe = $7, updated_at = $8, reply_to = $9
			where tenant_id = $1 and id = $2`, Args: []any{
			tenant, id, r.Delay.Seconds(), sqldb.TextOrNull(string(r.Reason)),
			sqldb.TextOrNull(r.Code), place, r.PossiblySent, now, sqldb.TextOrNull(r.Row.ReplyTo),
		}}), nil
	case adapters.Sent:
		return []sqldb.Statement{
			{Query: `update outbox set status = 'sent', provider_id = $3, reason = null, code = null, updated_at = $4
				where tenant_id = $1 and id = $2`, Args: []any{tenant, id, sqldb.TextOrNull(r.ProviderID), now}},
			// A receipt may have been stored before the provider's ID of the reply.
			receiptStmt(tenant, r.Row.InstanceID, r.Row.Channel, r.ProviderID, now),
		}, nil
	default: // the reply is not sent again
		return []sqldb.Statement{{
			Query: `update outbox set status = $3, reason = $4, code = $5, updated_at = $6
			where tenant_id = $1 and id = $2`,
			Args: []any{tenant, id, string(r.Status), sqldb.TextOrNull(string(r.Reason)), sqldb.TextOrNull(r.Code), now},
		}}, nil
	}
}

// divideStmts returns the statements that store the parts of a reply in the place of the whole, or none if it
// was not divided. Parts sort behind each other and before later replies, however often they are divided:
// each has the position of the reply in part_of, and in part two digits for each division.
func (s *Store) divideStmts(tenant string, r gateway.SendResult, now time.Time) ([]sqldb.Statement, error) {
	if len(r.Rest) == 0 {
		return nil, nil
	}
	var stmts []sqldb.Statement
	for i, o := range r.Rest {
		place, err := s.sealChat(tenant, o.ID, o.Chat)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, sqldb.Statement{
			Query: `
			insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, cause,
				message_id, due_at, created_at, updated_at, part_of, part)
			select $3, tenant_id, conversation_id, instance_id, channel, recipient, $4, $5, cause,
				message_id, due_at, created_at, $6, coalesce(part_of, seq), part || $7
			from outbox where tenant_id = $1 and id = $2`,
			Args: []any{tenant, r.Row.ID, o.ID, place, o.Text, now, fmt.Sprintf("%02d", i+1)},
		})
	}
	return append(stmts, sqldb.Statement{
		Query: `update outbox set text = $3, part_of = coalesce(part_of, seq), part = part || '00'
			where tenant_id = $1 and id = $2`,
		Args: []any{tenant, r.Row.ID, r.Row.Text},
	}), nil
}

// receiptStmt updates the status of a reply from its receipt.
func receiptStmt(tenant, instance string, channel adapters.Channel, providerID string, now time.Time) sqldb.Statement {
	return sqldb.Statement{
		Query: `
		update outbox set
			status = coalesce((select r.status from receipts r where r.tenant_id = $1 and r.instance_id = $2 and r.channel = $3
				and r.provider_id = $4 and r.rank > 2), status),
			code = coalesce((select nullif(r.code, '') from receipts r where r.tenant_id = $1 and r.instance_id = $2
				and r.channel = $3 and r.provider_id = $4), code),
			updated_at = $5
		where tenant_id = $1 and instance_id = $2 and channel = $3 and provider_id = $4`,
		Args: []any{tenant, instance, string(channel), providerID, now},
	}
}

// ApplyReceipts stores delivery receipts of replies in one transaction. Receipts may be
// duplicated, arrive out of order, and arrive before the provider's ID of the reply is stored.
func (s *Store) ApplyReceipts(ctx context.Context, ep adapters.Endpoint, receipts []adapters.Receipt) error {
	var stmts []sqldb.Statement
	now := s.now()
	for _, r := range receipts {
		stmts = append(stmts,
			sqldb.Statement{
				Query: `
				insert into receipts (tenant_id, instance_id, channel, provider_id, status, rank, code, at)
				values ($1, $2, $3, $4, $5, $6, $7, $8)
				on conflict (instance_id, channel, provider_id) do update set status = excluded.status, rank = excluded.rank,
					code = excluded.code, at = excluded.at
				where receipts.rank < excluded.rank`,
				Args: []any{
					ep.TenantID, ep.InstanceID, string(ep.Channel), r.ProviderID, string(r.Status), r.Status.Rank(),
					r.Code, now,
				},
			},
			receiptStmt(ep.TenantID, ep.InstanceID, ep.Channel, r.ProviderID, now))
		if r.OptedOut {
			stmts = append(s.optOutStmts(ep, r.ProviderID, now), stmts...)
		}
		if r.Gone {
			// If the provider's ID of the reply is not stored yet, this has no effect; a later
			// receipt repeats it.
			stmts = append(stmts, expireVerificationStmts(identity.ExpiredByTermination, now, ep.TenantID, recipientExpr,
				ep.InstanceID, string(ep.Channel), r.ProviderID)...)
		}
	}
	if err := s.db.Batch(ctx, stmts); err != nil {
		return fmt.Errorf("store receipts: %w", err)
	}
	return nil
}

// repliesByProviderID is the part of a query that reads the reply o of a receipt and its direct conversation
// c, in a statement whose $1 to $4 are the tenant, instance, channel and provider's ID of the reply.
const repliesByProviderID = `
				from outbox o
				join conversations c on c.tenant_id = o.tenant_id and c.id = o.conversation_id
				where o.tenant_id = $1 and o.instance_id = $2 and o.channel = $3 and o.provider_id = $4 and not c.is_group`

// recipientExpr is the expression for the identity to whom a reply was sent, and sentInExpr for the
// conversation.
const (
	recipientExpr = `select c.identity_id` + repliesByProviderID + ` order by o.id limit 1`
	sentInExpr    = `select c.id` + repliesByProviderID + ` order by o.id limit 1`
)

// optOutStmts returns the statements that record that the recipient of a reply unsubscribed, as when the
// channel refuses the reply itself. The queue is locked first, as by a worker.
func (s *Store) optOutStmts(ep adapters.Endpoint, providerID string, now time.Time) []sqldb.Statement {
	args := []any{ep.InstanceID, string(ep.Channel), providerID}
	stmts := append([]sqldb.Statement{
		s.wakeEventsStmt(repliesByProviderID+` order by o.id limit 1`, append([]any{ep.TenantID}, args...)...),
	}, expireVerificationStmts(identity.ExpiredByOptOut, now, ep.TenantID, recipientExpr, args...)...)
	return append(stmts, s.subscriptionStmts(subscription{
		tenant: ep.TenantID, optedOut: true, at: now, identity: recipientExpr, conversation: sentInExpr, args: args,
	})...)
}

// replyLimitEvent is the kind of the event that records that the limit of an instance was reached.
const replyLimitEvent = "replies.limited"

// insertReplyStmt returns the statement that stores a reply with its encrypted chat, unless a limit
// of the reply is reached. The replies are counted by the statement that stores them.
func (s *Store) insertReplyStmt(o gateway.OutboxRow, place string) sqldb.Statement {
	args := []any{
		o.ID, o.TenantID, o.ConversationID, o.InstanceID, string(o.Channel), o.Recipient, place, o.Text,
		sqldb.TextOrNull(o.ReplyTo), o.Cause, sqldb.TextOrNull(o.MessageID), o.Delay.Seconds(),
	}
	var conditions []string
	if o.MaxPerHour > 0 {
		args = append(args, o.MaxPerHour)
		conditions = append(conditions, sqldb.Placeholder(len(args))+` > (
				select count(*) from outbox
				where tenant_id = $2 and conversation_id = $3 and cause = $10 and created_at > `+s.hourAgo()+`)`)
	}
	if o.MaxPerInstance > 0 {
		args = append(args, o.MaxPerInstance)
		limit := sqldb.Placeholder(len(args))
		var count string
		count, args = s.paidRepliesExpr(`$2`, `$4`, args)
		conditions = append(conditions, limit+` > `+count)
	}
	where := ``
	if len(conditions) > 0 {
		where = ` where ` + strings.Join(conditions, ` and `)
	}
	return sqldb.Statement{Query: `
		insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, reply_to, cause,
			message_id, due_at, created_at, updated_at)
		select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ` + s.dialect.NowPlusExpr("$12") + `, ` + s.dialect.Now +
		`, ` + s.dialect.Now + where, Args: args}
}

// hourAgo returns the expression for the start of the hour in which replies are counted.
func (s *Store) hourAgo() string { return s.dialect.NowPlus(-int(time.Hour / time.Second)) }

// paidRepliesExpr returns the expression for the number of replies that the gateway itself sent for an
// instance on paid channels within an hour, and args with the arguments of the expression appended.
func (s *Store) paidRepliesExpr(tenant, instance string, args []any) (expr string, all []any) {
	var placeholders []string
	for _, c := range adapters.ChannelsWith(func(t adapters.Traits) bool { return t.Paid }) {
		args = append(args, string(c))
		placeholders = append(placeholders, sqldb.Placeholder(len(args)))
	}
	return `(
				select count(*) from outbox
				where tenant_id = ` + tenant + ` and instance_id = ` + instance + ` and cause = 'command'
					and channel in (` + strings.Join(placeholders, ", ") + `) and created_at > ` + s.hourAgo() + `)`, args
}

// replyLimits returns the limits of instances to which replies are subject.
func replyLimits(replies []gateway.OutboxRow) map[string]gateway.OutboxRow {
	limits := map[string]gateway.OutboxRow{}
	for _, o := range replies {
		if o.MaxPerInstance > 0 {
			limits[o.InstanceID] = o
		}
	}
	return limits
}

// lockReplyLimitStmts returns the statements that let commits wait for each other if their replies are
// subject to the limit of the same instance, so that each counts the replies of the others. They must
// be the first of a transaction: a commit that waits holds no other lock.
func (s *Store) lockReplyLimitStmts(replies []gateway.OutboxRow) []sqldb.Statement {
	if s.dialect.AdvisoryLock == "" {
		return nil
	}
	var stmts []sqldb.Statement
	for _, instance := range slices.Sorted(maps.Keys(replyLimits(replies))) {
		stmts = append(stmts, sqldb.Statement{Query: s.dialect.AdvisoryLock, Args: []any{"replies\x1f" + instance}})
	}
	return stmts
}

// limitEventStmts returns the statements that record, once an hour, that the limit of an instance is
// reached.
func (s *Store) limitEventStmts(replies []gateway.OutboxRow) []sqldb.Statement {
	var stmts []sqldb.Statement
	limits := replyLimits(replies)
	for _, instance := range slices.Sorted(maps.Keys(limits)) {
		o := limits[instance]
		detail := encodeDetail(map[string]string{"limit": fmt.Sprint(o.MaxPerInstance), "per": "hour"})
		count, args := s.paidRepliesExpr(`$2`, `$5`, []any{
			newID(), o.TenantID, replyLimitEvent, string(identity.System), instance, detail, o.MaxPerInstance,
		})
		stmts = append(stmts, sqldb.Statement{Query: `
			insert into audit_events (id, tenant_id, kind, actor, instance_id, detail)
			select $1, $2, $3, $4, $5, $6
			where $7 <= ` + count + ` and not exists (
				select 1 from audit_events
				where tenant_id = $2 and kind = $3 and instance_id = $5 and at > ` + s.hourAgo() + `)`, Args: args})
	}
	return stmts
}
