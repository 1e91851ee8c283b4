package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

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
