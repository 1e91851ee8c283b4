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
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// PendingEvents returns the oldest pending events of a leased conversation. The sender of each is
// read at the time of the call, so that rights withdrawn since the message arrived are not
// reported to the application. If a row cannot be decoded or decrypted, the event's Err is set. Of the
// notices that are not due, only the one that is due first is returned, beyond the limit.
func (s *Store) PendingEvents(ctx context.Context, l gateway.Lease) ([]gateway.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	const pending = `from deliveries where tenant_id = $1 and conversation_id = $2 and status = 'pending'`
	rs, err := s.db.Query(ctx, `
		select d.id, d.event_type, d.join_key, d.event_id, d.attempts, `+s.dialect.SecondsUntil("d.due_at")+`,
			-(`+s.dialect.SecondsUntil("d.created_at")+`), d.created_at, d.instance_id,
			m.id, m.channel, m.body, m.text, m.sealed, m.received_at,
			i.id, i.customer_id, i.channel, i.external_id, i.display_name, i.username, i.role_override, i.verified_at, i.doubt,
				i.opted_out_at, u.email, u.first_name, u.last_name, u.company_name, u.fk_id,
			coalesce(n.owner_max_age_days, 0), coalesce(n.customer_max_age_days, 0), n.agent_url, n.agent_disabled_at,
				n.webhook_secret, `+s.previousSecretsExpr("n")+`
		from (
			select p.*, coalesce(p.identity_id, (
				select `+senderIdentityExpr("w")+` from messages w
				where w.tenant_id = p.tenant_id and w.id = p.message_id)) as whose
			from (
				select * from (
					select * `+pending+` and (not notice or due_at <= `+s.dialect.Now+`) order by seq limit $3) due
				union all
				select * from (
					select * `+pending+` and notice and due_at > `+s.dialect.Now+` order by due_at limit 1) later) p) d
		join instances n on n.tenant_id = d.tenant_id and n.id = d.instance_id
		left join messages m on m.tenant_id = d.tenant_id and m.id = d.message_id
		left join identities i on i.tenant_id = d.tenant_id and i.id = d.whose
		left join customers u on u.tenant_id = i.tenant_id and u.id = i.customer_id
		order by d.seq`, l.TenantID, l.ConversationID, gateway.FetchLimit)
	events, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (gateway.Event, error) { return s.scanEvent(sc, l) })
	if err != nil {
		return nil, fmt.Errorf("read pending events: %w", err)
	}
	return events, nil
}

func (s *Store) scanEvent(sc sqldb.ScanFunc, l gateway.Lease) (gateway.Event, error) {
	e := gateway.Event{Delivery: gateway.Delivery{TenantID: l.TenantID, ConversationID: l.ConversationID}}
	var channel, body, sealed, secret, retired, identityChannel string
	i, m, u := &e.Sender, &e.Message, &e.Customer
	err := sc(
		&e.ID,
		&e.Type,
		sqldb.Text(&e.JoinKey),
		sqldb.Text(&e.EventID),
		&e.Attempts,
		sqldb.Seconds(&e.Delay),
		sqldb.Seconds(&e.Age),
		sqldb.Time(&e.CreatedAt),
		&e.InstanceID,
		sqldb.Text(&e.MessageID),
		sqldb.Text(&channel),
		sqldb.Text(&body),
		sqldb.Text(&m.Text),
		sqldb.Text(&sealed),
		sqldb.Time(&e.ReceivedAt),
		sqldb.Text(&i.ID),
		sqldb.Text(&i.CustomerID),
		sqldb.Text(&identityChannel),
		sqldb.Text(&i.ExternalID),
		sqldb.Text(&i.DisplayName),
		sqldb.Text(&i.Username),
		sqldb.Text(&i.RoleOverride),
		sqldb.Time(&i.VerifiedAt),
		sqldb.Text((*string)(&i.ExpiryReason)),
		sqldb.Time(&i.OptedOutAt),
		sqldb.Text(&u.Email),
		sqldb.Text(&u.FirstName),
		sqldb.Text(&u.LastName),
		sqldb.Text(&u.CompanyName),
		sqldb.Text(&e.FKID),
		&e.VerificationPolicy.OwnerDays,
		&e.VerificationPolicy.CustomerDays,
		sqldb.Text(&e.AgentURL),
		sqldb.Time(&e.DisabledAt),
		&secret,
		sqldb.Text(&retired),
	)
	if err != nil {
		return e, err
	}
	stored := m.Text
	if body != "" {
		e.Err = json.Unmarshal([]byte(body), m)
	}
	m.Text, e.Channel, i.Channel, i.TenantID, e.IdentityID = stored, adapters.Channel(channel), identityChannel,
		l.TenantID, i.ID
	m.Chat.ReplyToken = s.openReplyToken(l.TenantID, e.MessageID, sealed)
	if e.Secrets, err = s.decryptSigningSecrets(l.TenantID, e.InstanceID, secret, retired); err != nil {
		e.Err = err
	}
	return e, nil
}

// openReplyToken decrypts the reply token of a message, or returns "". A reply can do without it.
func (s *Store) openReplyToken(tenant, message, sealed string) string {
	var secret gateway.Secret
	plain, _, err := s.keys.Open(sealed, keyring.AssociatedData(tenant, "messages.sealed", message))
	if err != nil || json.Unmarshal(plain, &secret) != nil {
		return ""
	}
	return secret.ReplyToken
}

// deliveryStmts returns the statements that store new events, and of which deliveries an event consists.
func (s *Store) deliveryStmts(st gateway.Commit) []sqldb.Statement {
	var stmts []sqldb.Statement
	tenant := st.Lease.TenantID
	for _, d := range st.Deliveries {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, identity_id, event_type, join_key,
				notice, due_at, created_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, ` + s.dialect.NowPlusExpr("$10") + `, ` + s.dialect.Now + `)`,
			Args: []any{
				d.ID, d.TenantID, d.ConversationID, d.InstanceID, sqldb.TextOrNull(d.MessageID),
				sqldb.TextOrNull(d.IdentityID), string(d.Type), sqldb.TextOrNull(d.JoinKey), d.Type.IsNotice(),
				d.JoinWait.Seconds(),
			},
		})
	}
	// An event may belong to another conversation than the message that caused it.
	due := map[string]time.Duration{}
	for _, d := range st.Deliveries {
		if wait, ok := due[d.ConversationID]; !d.Parked && (!ok || d.JoinWait < wait) {
			due[d.ConversationID] = d.JoinWait
		}
	}
	for _, c := range slices.Sorted(maps.Keys(due)) {
		stmts = append(stmts, s.wakeQueue(gateway.DeliveryQueue, tenant, c, due[c]))
	}
	if ids := st.FormedEvent; len(ids) > 0 {
		in, args := sqldb.PlaceholderList([]any{tenant, ids[0]}, ids, "$%d")
		stmts = append(stmts, sqldb.Statement{Query: `
			update deliveries set event_id = $2 where tenant_id = $1 and id in (` + in + `)`, Args: args})
	}
	return stmts
}

// deliveryResultStmts returns the statements that store the results of deliveries.
func (s *Store) deliveryResultStmts(st gateway.Commit) []sqldb.Statement {
	var stmts []sqldb.Statement
	tenant, now := st.Lease.TenantID, s.now()
	for _, r := range st.DeliveryResults {
		if r.Status == gateway.Pending {
			stmts = append(stmts, sqldb.Statement{Query: `
				update deliveries set attempts = attempts + 1, due_at = ` + s.dialect.NowPlusExpr("$3") +
				`, answer_status = $4, error = $5
				where tenant_id = $1 and id = $2`, Args: []any{tenant, r.ID, r.Delay.Seconds(), r.HTTPStatus, r.Error}})
			continue
		}
		stmts = append(stmts, sqldb.Statement{Query: `
			update deliveries set status = $3, attempts = attempts + 1, answer_status = $4, error = $5, settled_at = $6
			where tenant_id = $1 and id = $2`, Args: []any{
			tenant, r.ID, string(r.Status), r.HTTPStatus,
			sqldb.TextOrNull(r.Error), now,
		}})
	}
	return stmts
}

// A subscription is an opt-out, or an opt-in after one.
type subscription struct {
	tenant                 string
	optedOut               bool
	at                     time.Time
	identity, conversation string // expressions for their IDs, in which $1 is the tenant and args follow
	args                   []any
}

// subscriptionStmts returns the statements that record a change of the subscription of a person, and the
// event about it for the application of the instance of the conversation. Of concurrent reports of one
// change, the first has an effect; none has if the conversation was erased. The delivery queue must be woken before.
func (s *Store) subscriptionStmts(c subscription) []sqldb.Statement {
	event, set, unless := gateway.IdentityOptedIn, `null`, `is not null`
	args := append(append([]any{c.tenant}, c.args...), newID())
	id, next := sqldb.Placeholder(len(args)), sqldb.Placeholder(len(args)+1)
	if c.optedOut {
		event, set, unless = gateway.IdentityOptedOut, next, `is null`
	}
	return []sqldb.Statement{
		{
			Query: `
			update identities set opted_out_at = ` + set + `, updated_at = ` + next + `, subscription_event = ` + id + `
			where tenant_id = $1 and opted_out_at ` + unless + ` and id = (` + c.identity + `)
				and exists (select 1 from conversations where tenant_id = $1 and id = (` + c.conversation + `))`,
			Args: append(slices.Clip(args), c.at),
		},
		{
			Query: `
			insert into deliveries (id, tenant_id, conversation_id, instance_id, identity_id, event_type, notice, due_at,
				created_at)
			select ` + id + `, i.tenant_id, c.id, c.instance_id, i.id, '` + string(event) + `', true, ` + s.dialect.Now +
				`, ` + s.dialect.Now + `
			from identities i
			join conversations c on c.tenant_id = i.tenant_id and c.id = (` + c.conversation + `)
			join instances n on n.tenant_id = c.tenant_id and n.id = c.instance_id
			where i.tenant_id = $1 and i.id = (` + c.identity + `) and i.subscription_event = ` + id + `
				and coalesce(n.events, ` + next + `) like '%,` + string(event) + `,%'
				and (i.customer_id is not null or n.unknown_senders = 'forward')`,
			Args: append(slices.Clip(args), joinNames(gateway.DefaultEventTypes())),
		},
	}
}

// wakeEventsStmt makes the delivery queue of the conversation c due that a part of a query reads.
func (s *Store) wakeEventsStmt(from string, args ...any) sqldb.Statement {
	return sqldb.Statement{Query: `
			insert into lanes (conversation_id, kind, tenant_id, due_at)
			select c.id, '` + string(gateway.DeliveryQueue) + `', c.tenant_id, ` + s.dialect.Now + ` ` + from + `
			on conflict (conversation_id, kind) do update set due_at = ` +
		s.dialect.Least("lanes.due_at", "excluded.due_at") + `, wakes = lanes.wakes + 1`, Args: args}
}

// DisableAgent disables an application that answered 410 Gone at url. It does nothing if the
// instance has another URL by now.
func (s *Store) DisableAgent(ctx context.Context, tenant, instance, url string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		n, err := tx.Exec(ctx, `
			update instances set agent_disabled_at = `+s.dialect.Now+`, updated_at = `+s.dialect.Now+`
			where tenant_id = $1 and id = $2 and agent_url = $3 and agent_disabled_at is null`, tenant, instance, url)
		if err != nil || n == 0 {
			return err
		}
		return recordEvents(ctx, tx, identity.Event{
			TenantID: tenant, Kind: "instance.agent_gone", Actor: identity.System,
			InstanceID: instance,
		})
	})
	if err != nil {
		return fmt.Errorf("disable application: %w", err)
	}
	return nil
}

// wakeDeliveries makes the pending events of an instance due now, after its application was moved
// or enabled.
func (s *Store) wakeDeliveries(ctx context.Context, tx sqldb.DB, tenant, instance string) error {
	if _, err := tx.Exec(ctx, `
		update deliveries set due_at = `+s.dialect.Now+` where tenant_id = $1 and instance_id = $2 and status = 'pending'
			and due_at > `+s.dialect.Now, tenant, instance); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		insert into lanes (conversation_id, kind, tenant_id, due_at)
		select distinct conversation_id, 'delivery', tenant_id, `+s.dialect.Now+` from deliveries
		where tenant_id = $1 and instance_id = $2 and status = 'pending'
		order by conversation_id
		on conflict (conversation_id, kind) do update set due_at = excluded.due_at, wakes = lanes.wakes + 1`,
		tenant, instance)
	return err
}
