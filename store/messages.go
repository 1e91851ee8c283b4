package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// senderIdentityExpr returns the expression for the identity of the sender of a message: that of a
// customer in the instance, else that of a customer for all instances, else that of an unknown
// sender. It is evaluated when the message is read, so that claims, links and unlinks apply as
// soon as they are committed. It must be in the select list of a limited query: as a join
// condition it would be evaluated for every identity of the tenant.
func senderIdentityExpr(message string) string {
	return `(
		select x.id from identities x
		where x.tenant_id = ` + message + `.tenant_id and x.channel = ` + message + `.channel and x.external_id = ` +
		message + `.sender_id
			and (x.instance_id = ` + message + `.instance_id or x.instance_id is null)
		order by (case when x.customer_id is null then 1 else 0 end), (case when x.instance_id is null then 1 else 0 end)
			limit 1)`
}

// busyGroupMessages is the number of messages of a group among which those of one sender are counted.
const busyGroupMessages = 1000

// aboveLimitExpr returns the expression for whether the sender of a message wrote
// gateway.MessagesPerMinute messages in the minute before it. Unless that many messages were written in
// the conversation, it reads only these from the index. In a group, it then counts those of the sender.
func (s *Store) aboveLimitExpr(message, conversation string) string {
	age := `(` + s.dialect.SecondsUntil(message+".received_at") + `) - (` + s.dialect.SecondsUntil("w.received_at") + `)`
	earlier := `from messages w where w.tenant_id = ` + message + `.tenant_id and w.conversation_id = ` + message +
		`.conversation_id and w.seq < ` + message + `.seq order by w.seq desc limit `
	return fmt.Sprintf(`
				coalesce((select `+age+` `+earlier+`1 offset %d), 60) < 60 and (not `+conversation+`.is_group or (
					select count(*) from (select w.sender_id, `+age+` as age `+earlier+`%d) w
					where w.sender_id = `+message+`.sender_id and w.age < 60) >= %d)`,
		gateway.MessagesPerMinute-1, busyGroupMessages, gateway.MessagesPerMinute)
}

// PendingMessages returns the oldest unprocessed messages of a leased conversation with the
// present state of their senders. If a row cannot be decoded or decrypted, the message's Err is
// set.
func (s *Store) PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	rs, err := s.db.Query(ctx, `
		select m.id, m.instance_id, m.channel, m.body, m.text, m.sealed, m.attempts, m.received_at,
			-(`+s.dialect.SecondsUntil("m.received_at")+`),
			i.id, i.customer_id, i.instance_id, i.display_name, i.username, i.role_override, i.verified_at, i.doubt,
				i.last_heard_at, i.opted_out_at, i.blocked_at,
			case when i.reclaim_told_at is not null then 1 else 0 end,
			case when i.refused_at is not null and i.customer_id is null then 1 else 0 end,
			case when i.unlink_asked_at > `+s.dialect.NowPlus(-int(gateway.UnlinkWindow/time.Second))+` then 1 else 0 end,
			i.unlink_word, case when i.unlink_failed_at > `+s.unlinkFailuresSince()+` then i.unlink_failures else 0 end,
			case when i.claim_expires_at >= m.received_at and i.claim_used_msg is null and i.claim_revoked_at is null
				and i.verified_at is null then 1 else 0 end,
			case when `+s.aboveLimitExpr("m", "c")+` then 1 else 0 end,
			case when `+liveCodeExpr("m")+` then 1 else 0 end, case when `+liveInviteExpr("m")+` then 1 else 0 end,
			c.identity_id, n.name, n.agent_url, n.unknown_senders, n.welcome_text, n.events,
			coalesce(n.owner_max_age_days, 0), coalesce(n.customer_max_age_days, 0), coalesce(n.silence_max_days, 0)
		from (
			select messages.*, `+senderIdentityExpr("messages")+` as whose from messages
			where tenant_id = $1 and conversation_id = $2 and state = 'new'
			order by seq limit $3) m
		join conversations c on c.tenant_id = m.tenant_id and c.id = m.conversation_id
		join instances n on n.tenant_id = m.tenant_id and n.id = m.instance_id
		left join identities i on i.tenant_id = m.tenant_id and i.id = m.whose
		order by m.seq`, l.TenantID, l.ConversationID, gateway.FetchLimit)
	messages, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (gateway.StoredMessage,
		error,
	) {
		return s.scanInbound(sc, l)
	})
	if err != nil {
		return nil, fmt.Errorf("read pending messages: %w", err)
	}
	return messages, nil
}

// maxDeletionDistance is the number of waiting messages among which a deleted one is searched.
const maxDeletionDistance = 500

// UndeliveredVersions implements process.MessageStore. It sets only ID and Message.
func (s *Store) UndeliveredVersions(
	ctx context.Context, in gateway.StoredMessage,
) (versions []gateway.StoredMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	rs, err := s.db.Query(ctx, `
		select m.id, m.body from deliveries d
		join messages m on m.tenant_id = d.tenant_id and m.id = d.message_id
		where d.tenant_id = $1 and d.conversation_id = $2 and d.status = 'pending'
		order by d.seq desc limit $3`, in.TenantID, in.ConversationID, maxDeletionDistance)
	all, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (v gateway.StoredMessage, err error) {
		var body string
		if err = sc(sqldb.Text(&v.ID), &body); err == nil {
			v.Err = json.Unmarshal([]byte(body), &v.Message)
		}
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("read undelivered messages: %w", err)
	}
	for _, v := range all {
		if v.Err == nil && v.Message.ProviderID == in.Message.ProviderID {
			versions = append(versions, v)
		}
	}
	return versions, nil
}

// maxVersionDistance is the number of messages of a conversation in which an earlier version of a message is
// searched.
const maxVersionDistance = 500

// PreviousVersion returns the Version of the newest message before in with the same ProviderID in its
// conversation, or "" if none of the last messages has it.
func (s *Store) PreviousVersion(ctx context.Context, in gateway.StoredMessage) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	id, err := json.Marshal(in.Message.ProviderID)
	if err != nil {
		return "", err
	}
	rs, err := s.db.Query(ctx, `
		select body from (
			select body, seq from messages where tenant_id = $1 and conversation_id = $2
				and seq < (select seq from messages where tenant_id = $1 and id = $3)
			order by seq desc limit $4) recent
		where body like $5 order by seq desc limit 1`,
		in.TenantID, in.ConversationID, in.ID, maxVersionDistance, `%"provider_id":`+string(id)+`%`)
	body, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
	if sqldb.IsNoRows(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read previous version: %w", err)
	}
	var m adapters.Message
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.ProviderID != in.Message.ProviderID {
		return "", nil // the version is unknown
	}
	return m.Version, nil
}

func (s *Store) scanInbound(sc sqldb.ScanFunc, l gateway.Lease) (gateway.StoredMessage, error) {
	in := gateway.StoredMessage{TenantID: l.TenantID, ConversationID: l.ConversationID}
	var body, sealed, unknown string
	var channel string
	var events *string
	var hasCode, unlinkRequested, blocked, reclaimNotified, aboveLimit, liveCodes, liveInvites int
	i, n := &in.Sender, &in.Instance
	err := sc(
		&in.ID,
		&in.InstanceID,
		&channel,
		&body,
		&in.Message.Text,
		sqldb.Text(&sealed),
		&in.Attempts,
		sqldb.Time(&in.ReceivedAt),
		sqldb.Seconds(&in.Age),
		sqldb.Text(&i.ID),
		sqldb.Text(&i.CustomerID),
		sqldb.Text(&i.InstanceID),
		sqldb.Text(&i.DisplayName),
		sqldb.Text(&i.Username),
		sqldb.Text(&i.RoleOverride),
		sqldb.Time(&i.VerifiedAt),
		sqldb.Text((*string)(&i.ExpiryReason)),
		sqldb.Time(&i.LastSeenAt),
		sqldb.Time(&i.OptedOutAt),
		sqldb.Time(&i.BlockedAt),
		&reclaimNotified,
		&blocked,
		&unlinkRequested,
		sqldb.Text(&in.UnlinkWord),
		&in.UnlinkFailures,
		&hasCode,
		&aboveLimit,
		&liveCodes,
		&liveInvites,
		sqldb.Text(&in.ConversationIdentity),
		&n.Name,
		sqldb.Text(&n.AgentURL),
		&unknown,
		sqldb.Text(&n.WelcomeText),
		&events,
		&n.VerificationPolicy.OwnerDays,
		&n.VerificationPolicy.CustomerDays,
		&n.VerificationPolicy.InactivityDays,
	)
	if err != nil {
		return in, err
	}
	stored := in.Message.Text
	in.Err = json.Unmarshal([]byte(body), &in.Message)
	in.Channel, in.HasLiveCode, in.UnlinkRequested = adapters.Channel(channel), hasCode == 1, unlinkRequested == 1
	in.SenderBlocked, in.ReclaimNotified = blocked == 1, reclaimNotified == 1
	in.LiveCodes, in.LiveInvites, in.AboveLimit = liveCodes == 1, liveInvites == 1, aboveLimit == 1
	in.Message.Text = stored
	n.ID, n.TenantID, n.UnknownSenders = in.InstanceID, in.TenantID, gateway.UnknownSenderPolicy(unknown)
	n.Events = splitEvents(events)
	if i.ID != "" {
		i.TenantID, i.Channel, i.ExternalID = in.TenantID, channel, in.Message.Sender.ID
	}
	if sealed != "" && in.Err == nil {
		in.Err = s.openInbound(&in, sealed)
	}
	return in, nil
}

// openInbound decrypts the secret part of a message.
func (s *Store) openInbound(in *gateway.StoredMessage, sealed string) error {
	plain, _, err := s.keys.Open(sealed, keyring.AssociatedData(in.TenantID, "messages.sealed", in.ID))
	if err != nil {
		return err
	}
	var secret gateway.Secret
	if err := json.Unmarshal(plain, &secret); err != nil {
		return err
	}
	if secret.Message != nil {
		in.Encrypted = true
		key, altKey := in.Message.Key, in.Message.AltKey
		in.Message = *secret.Message
		in.Message.Key, in.Message.AltKey = key, altKey
	}
	if secret.Text != "" {
		in.Encrypted, in.Message.Text, in.Message.Command = true, secret.Text, secret.Command
	}
	in.Message.Chat.ReplyToken, in.Message.Raw = secret.ReplyToken, secret.Raw
	return nil
}

// messageStmts returns the statements that store the outcome of messages. The encrypted part of a
// processed message is deleted. Messages that were not decoded completely keep theirs until the texts
// of messages are purged, so that the decoder can be fixed. Of others, the reply token remains for the
// replies of the application.
func (s *Store) messageStmts(st gateway.Commit) ([]sqldb.Statement, error) {
	var stmts []sqldb.Statement
	for _, m := range st.EmptiedMessages {
		body, err := messageBody(m.Message)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, sqldb.Statement{
			Query: `update messages set text = '', body = $4, sealed = null
				where tenant_id = $1 and conversation_id = $2 and id = $3`,
			Args: []any{st.Lease.TenantID, st.Lease.ConversationID, m.ID, body},
		})
	}
	for _, m := range st.Messages {
		if m.Retry {
			stmts = append(stmts,
				sqldb.Statement{
					Query: `update messages set attempts = attempts + 1 where tenant_id = $1 and id = $2`,
					Args:  []any{st.Lease.TenantID, m.ID},
				})
			continue
		}
		state := "done"
		if m.Dead {
			state = "dead"
		}
		set, args := ``, []any{st.Lease.TenantID, m.ID, state, m.Outcome, s.now()}
		if m.Message != nil {
			body, err := messageBody(*m.Message)
			if err != nil {
				return nil, err
			}
			set = fmt.Sprintf(`, text = $%d, body = $%d`, len(args)+1, len(args)+2)
			args = append(args, m.Message.Text, body)
		}
		switch {
		case m.KeepSecret:
		case m.ReplyToken != "":
			token, err := json.Marshal(gateway.Secret{ReplyToken: m.ReplyToken})
			if err != nil {
				return nil, err
			}
			args = append(args, s.keys.Seal(token, keyring.AssociatedData(st.Lease.TenantID, "messages.sealed", m.ID)))
			set += fmt.Sprintf(`, sealed = $%d`, len(args))
		default:
			set += `, sealed = case when kind = 'undecodable' then sealed end`
		}
		stmts = append(stmts, sqldb.Statement{Query: `
			update messages set state = $3, outcome = $4, worked_at = $5` + set + `
			where tenant_id = $1 and id = $2`, Args: args})
	}
	return stmts, nil
}

// insertSenderStmts returns the statements that insert new unknown senders.
func (s *Store) insertSenderStmts(st gateway.Commit) []sqldb.Statement {
	var stmts []sqldb.Statement
	now := s.now()
	for _, i := range st.CreatedIdentities {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			insert into identities (id, tenant_id, instance_id, channel, external_id, display_name, username, created_at,
				updated_at, last_heard_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8) on conflict do nothing`,
			Args: []any{
				i.ID, i.TenantID, i.InstanceID, i.Channel, i.ExternalID, sqldb.TextOrNull(i.DisplayName),
				sqldb.TextOrNull(i.Username), now,
			},
		})
	}
	return stmts
}

// senderStmts returns the statements that update senders and the participants of conversations.
func (s *Store) senderStmts(st gateway.Commit) []sqldb.Statement {
	var stmts []sqldb.Statement
	now := s.now()
	for _, u := range st.IdentityUpdates {
		stmts = append(stmts, s.activityStmts(st.Lease.TenantID, u, now)...)
		if u.OptedOut != nil {
			stmts = append(stmts, s.wakeQueue(gateway.DeliveryQueue, st.Lease.TenantID, st.Lease.ConversationID, 0))
			stmts = append(stmts, s.subscriptionStmts(subscription{
				tenant: st.Lease.TenantID, optedOut: *u.OptedOut, at: now, identity: `$2`, conversation: `$3`,
				args: []any{u.IdentityID, st.Lease.ConversationID},
			})...)
		}
	}
	if p := st.Participant; p != nil {
		a := p.Address
		stmts = append(stmts, sqldb.Statement{Query: `
			update conversations set identity_id = (
				select x.id from identities x
				where x.tenant_id = $1 and x.channel = $3 and x.external_id = $4 and (x.instance_id = $5 or x.instance_id is null)
				order by (case when x.customer_id is null then 1 else 0 end), (case when x.instance_id is null then 1 else 0 end)
					limit 1)
			where tenant_id = $1 and id = $2`, Args: []any{p.TenantID, p.ConversationID, a.Channel, a.ExternalID, a.InstanceID}})
	}
	return append(stmts, s.unlinkStmts(st.Unlink, now)...)
}

// activityStmts returns the statements for one update of an identity.
func (s *Store) activityStmts(tenant string, u gateway.IdentityUpdate, now time.Time) []sqldb.Statement {
	var stmts []sqldb.Statement
	if u.ExpiryReason != "" {
		stmts = expireVerificationStmts(u.ExpiryReason, now, tenant, `$2`, u.IdentityID)
	}
	if u.UpdateLastSeen {
		stmts = append(stmts,
			sqldb.Statement{
				Query: `update identities set last_heard_at = $3 where tenant_id = $1 and id = $2`,
				Args:  []any{tenant, u.IdentityID, now},
			})
	}
	if u.ReclaimNotified {
		stmts = append(stmts,
			sqldb.Statement{
				Query: `update identities set reclaim_told_at = $3 where tenant_id = $1 and id = $2`,
				Args:  []any{tenant, u.IdentityID, now},
			})
	}
	set, args := "", []any{tenant, u.IdentityID, now}
	add := func(column string, value any) {
		args = append(args, value)
		set += fmt.Sprintf(", %s = $%d", column, len(args))
	}
	if u.DisplayName != "" {
		add("display_name", u.DisplayName)
	}
	if u.Username != "" {
		add("username", u.Username)
	}
	if u.ClearUsername {
		set += ", username = null"
	}
	if u.OptedOut != nil && !*u.OptedOut {
		args = append(args, string(identity.ExpiredByOptOut))
		for _, column := range []string{"doubted_at", "reclaim_told_at", "doubt"} {
			set += fmt.Sprintf(", %[1]s = case when doubt = $%[2]d then null else %[1]s end", column, len(args))
		}
	}
	switch {
	case u.Blocked == nil:
	case *u.Blocked:
		add("blocked_at", now)
	default:
		set += ", blocked_at = null"
	}
	if set == "" {
		return stmts
	}
	return append(stmts,
		sqldb.Statement{
			Query: `update identities set updated_at = $3` + set + ` where tenant_id = $1 and id = $2`,
			Args:  args,
		})
}

// CountUnprocessed returns the number of unprocessed messages of all tenants, at most limit. It
// reads only an index on unprocessed messages.
func (s *Store) CountUnprocessed(ctx context.Context, limit int) (int, error) {
	rs, err := s.db.Query(ctx, `
		select count(*) from (
			select 1 from messages where state = 'new' order by conversation_id, seq limit $1) m`, limit)
	n, err := sqldb.ScanOne(rs, err, sqldb.ScanValue[int])
	if err != nil {
		return 0, fmt.Errorf("count unprocessed messages: %w", err)
	}
	return n, nil
}
