package store

import (
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/store/sqldb"
)

// insertDone inserts a message that was processed, delivered and answered the given number of days
// ago.
func (f *fixture) insertDone(sender string, days int) gateway.IncomingMessage {
	f.t.Helper()
	a := f.markedArrival(f.instance, adapters.Telegram, sender, sender, false, "what Steve wrote")
	a.Message.AltKey = a.Message.Key + "alt"
	a.Secret = &gateway.Secret{Raw: []byte("canary")}
	f.insertMessages(a)
	mustExec(f.t, f.Store, `
		insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, event_type, status, due_at,
			created_at, settled_at)
		values ($1, $2, $3, $4, $5, 'message.received', 'delivered', $6, $6, $6)`, newID(), f.tenant, a.ConversationID,
		f.instance, a.ID, f.now())
	f.insertReply(a, a.ID)
	f.backdate(days, a)
	return a
}

// insertReply inserts a sent reply.
func (f *fixture) insertReply(a gateway.IncomingMessage, message string) {
	f.t.Helper()
	mustExec(f.t, f.Store, `
		insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, cause, message_id,
			status, due_at, created_at, updated_at)
		values ($1, $2, $3, $4, 'telegram', $5, 'sealed', 'what Steve was answered', 'agent', $6, 'sent', $7, $7, $7)`,
		newID(), f.tenant, a.ConversationID, f.instance, a.Message.Sender.ID, sqldb.TextOrNull(message), f.now())
}

// backdate marks a message as processed and makes its conversation the given number of days old.
func (f *fixture) backdate(days int, a gateway.IncomingMessage) {
	f.t.Helper()
	then := f.dialect.NowPlus(-days * daySeconds)
	mustExec(f.t, f.Store, `update messages set state = 'done', received_at = `+then+` where conversation_id = $1`,
		a.ConversationID)
	mustExec(f.t, f.Store,
		`update deliveries set created_at = `+then+`, settled_at = `+then+` where conversation_id = $1`, a.ConversationID)
	mustExec(f.t, f.Store, `update outbox set created_at = `+then+`, updated_at = `+then+` where conversation_id = $1`,
		a.ConversationID)
}

// remaining describes what is left of a conversation: "empty 1 2 3" is a message without text, one
// event, two replies with text and three without.
func (f *fixture) remaining(a gateway.IncomingMessage) string {
	f.t.Helper()
	return queryText(f.t, f.Store, `
		select coalesce((
				select case
					when m.text <> '' and m.body <> '{}' and m.sealed is not null then 'full'
					when m.text = '' and m.body = '{}' and m.sealed is null then 'empty'
					else 'half' end
				from messages m where m.id = $1), 'gone')
			|| ' ' || (select count(*) from deliveries where conversation_id = $2)
			|| ' ' || (select count(*) from outbox where conversation_id = $2 and text <> '')
			|| ' ' || (select count(*) from outbox where conversation_id = $2 and text = '')`, a.ID, a.ConversationID)
}

func (f *fixture) purge() int64 {
	f.t.Helper()
	n, err := f.Purge(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// TestPurge_Retention tests how long messages, events and replies are kept in each state.
func TestPurge_Retention(t *testing.T) {
	tests := []struct {
		name    string
		days    int
		prepare func(f *fixture, a gateway.IncomingMessage)
		want    string // the result of remaining
	}{
		{"new message", 0, nil, "full 1 1 0"},
		{"29 days", 29, nil, "full 1 1 0"},
		{"31 days", 31, nil, "empty 1 0 1"},
		{"89 days", 89, nil, "empty 1 0 1"},
		{"91 days", 91, nil, "gone 0 0 0"},
		{"dead message, 31 days", 31, execOn(`update messages set state = 'dead' where id = $1`), "empty 1 0 1"},
		{"dead message, 91 days", 91, execOn(`update messages set state = 'dead' where id = $1`), "gone 0 0 0"},
		{"undecodable message", 31, execOn(`update messages set kind = 'undecodable' where id = $1`), "empty 1 0 1"},
		{"unprocessed message", 400, execOn(`update messages set state = 'new' where id = $1`), "full 1 0 0"},
		{
			"pending event, 31 days", 31,
			execOn(`update deliveries set status = 'pending', settled_at = null where message_id = $1`),
			"full 1 0 1",
		},
		{
			"pending event, 400 days", 400,
			execOn(`update deliveries set status = 'pending', settled_at = null where message_id = $1`),
			"full 1 0 0",
		},
		{"dead event", 91, execOn(`update deliveries set status = 'dead' where message_id = $1`), "gone 0 0 0"},
		{"queued reply", 31, execOn(`update outbox set status = 'queued' where message_id = $1`), "empty 1 1 0"},
		{"reply being sent", 400, execOn(`update outbox set status = 'sending' where message_id = $1`), "empty 1 1 0"},
		{"failed reply", 31, execOn(`update outbox set status = 'failed' where message_id = $1`), "empty 1 0 1"},
		{"reply sent later", 31, func(f *fixture, a gateway.IncomingMessage) {
			mustExec(f.t, f.Store, `update outbox set updated_at = $2 where message_id = $1`, a.ID, f.now())
		}, "empty 1 1 0"},
		{
			"reply to no message, 31 days", 31, execOn(`update outbox set message_id = null where message_id = $1`),
			"empty 1 0 1",
		},
		{
			"reply to no message, 91 days", 91, execOn(`update outbox set message_id = null where message_id = $1`),
			"gone 0 0 0",
		},
		{
			"event of no message, 91 days", 91, execOn(`update deliveries set message_id = null where message_id = $1`),
			"gone 0 0 0",
		},
		{
			"event of no message, 89 days", 89, execOn(`update deliveries set message_id = null where message_id = $1`),
			"empty 1 0 1",
		},
		{
			"pending event of no message", 91,
			execOn(`update deliveries set message_id = null, status = 'pending', settled_at = null where message_id = $1`),
			"gone 1 0 0",
		},
	}
	forEachFixture(t, func(t *testing.T, all *fixture) {
		for _, c := range tests {
			t.Run(c.name, func(t *testing.T) {
				f := newFixture(t, all.Store)
				foreign := newFixture(t, f.Store)
				messages := map[*fixture]gateway.IncomingMessage{
					f:       f.insertDone("1", c.days),
					foreign: foreign.insertDone("1", c.days),
				}
				for f, a := range messages {
					if c.prepare != nil {
						c.prepare(f, a)
					}
				}
				f.purge()
				for f, a := range messages {
					if got := f.remaining(a); got != c.want {
						t.Errorf("remaining = %q, want %q", got, c.want)
					}
				}
				if n := f.purge(); n != 0 {
					t.Errorf("a second Purge() changed %d rows, want 0", n)
				}
			})
		}
	})
}

// execOn returns a function that runs a statement with the ID of a message.
func execOn(query string) func(*fixture, gateway.IncomingMessage) {
	return func(f *fixture, a gateway.IncomingMessage) { mustExec(f.t, f.Store, query, a.ID) }
}

func TestPurge_RedeliveryStillDeduplicated(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		again := func(a gateway.IncomingMessage) int {
			t.Helper()
			a.ID = newID()
			n, err := f.InsertMessages(t.Context(), []gateway.IncomingMessage{a}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		cleared, deleted := f.insertDone("1", 31), f.insertDone("2", 91)
		f.purge()
		byAlt := cleared
		byAlt.Message.Key = newID()
		if n := again(cleared) + again(byAlt); n != 0 {
			t.Errorf("a cleared message was stored %d times more, want 0", n)
		}
		if n := again(deleted); n != 1 {
			t.Errorf("a deleted message was stored %d times, want 1", n)
		}
	})
}

// TestPurge_ClearedMessageReadable tests that a cleared message can be exported and erased.
func TestPurge_ClearedMessageReadable(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer := f.createCustomer()
		f.link(customer, "", "telegram", "7")
		a := f.insertDone("7", 31)
		f.purge()
		conversations, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: f.tenant, CustomerID: customer})
		if err != nil || len(conversations) != 1 {
			t.Fatalf("CustomerConversations() = %+v, %v, want one", conversations, err)
		}
		ms, err := f.ReceivedMessages(t.Context(), conversations[0], 0, 10)
		if err != nil || len(ms) != 1 || ms[0].ID != a.ID || ms[0].Text != "" || len(ms[0].Attachments) != 0 ||
			!ms[0].SentAt.IsZero() {
			t.Errorf("ReceivedMessages() = %+v, %v", ms, err)
		}
		rs, err := f.SentMessages(t.Context(), conversations[0], 0, 10)
		if err != nil || len(rs) != 1 || rs[0].Text != "" {
			t.Errorf("SentMessages() = %+v, %v", rs, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, customer, "key:k"); err != nil || f.remaining(a) != "gone 0 0 0" {
			t.Errorf("remaining after the erasure = %q, %v", f.remaining(a), err)
		}
	})
}

// TestPurge_Batches tests that more than one batch is purged, and that two replicas can purge
// concurrently.
func TestPurge_Batches(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		many := make([]gateway.IncomingMessage, 2*purgeBatch+purgeBatch/2)
		for i := range many {
			many[i] = f.markedArrival(f.instance, adapters.Telegram, "1", "1", false, "what Steve wrote")
		}
		f.insertMessages(many...)
		mustExec(t, f.Store, `
			insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, event_type, status, due_at,
				created_at, settled_at)
			select id, tenant_id, conversation_id, instance_id, id, 'message.received', 'delivered', received_at, received_at,
				received_at from messages where conversation_id = $1`, many[0].ConversationID)
		f.backdate(31, many[0])
		if n := f.purge(); n != int64(len(many)) {
			t.Errorf("Purge() changed %d rows, want %d", n, len(many))
		}
		f.backdate(91, many[0])
		done := make(chan error)
		for range 2 {
			go func() {
				_, err := f.Purge(t.Context())
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		f.purge() // rows that one replica left to the other
		if got := f.remaining(many[0]); got != "gone 0 0 0" {
			t.Errorf("remaining = %q, want nothing", got)
		}
		if n := queryText(t, f.Store, `select cast(count(*) as text) from messages where conversation_id = $1`,
			many[0].ConversationID); n != "0" {
			t.Errorf("%s messages left, want 0", n)
		}
	})
}

// TestPurge_UsesIndexes tests that no statement scans a table or sorts rows.
func TestPurge_UsesIndexes(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		if f.Engine() != "sqlite" {
			t.Skip("the plans of Postgres depend on the number of rows")
		}
		for _, queries := range [][]string{
			f.clearMessageTexts(), f.clearReplyTexts(), f.deleteMessages(),
			f.deleteReplies(), f.deleteDeliveries(),
		} {
			for _, q := range queries {
				rs, err := f.db.Query(t.Context(), `explain query plan `+q)
				steps, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (step string, err error) {
					var id, parent, unused int
					err = sc(&id, &parent, &unused, &step)
					return step, err
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, step := range steps {
					if strings.HasPrefix(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") {
						t.Errorf("%s: %s", q, step)
					}
				}
			}
		}
	})
}

// TestPurge_Invites tests that expired invites are kept for 90 days.
func TestPurge_Invites(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve := f.createCustomer()
		old, _ := f.issueInvite(steve, "")
		f.issueInvite(steve, "")
		mustExec(t, f.Store, `update invites set expires_at = $2 where id = $1`, old.ID, f.now().AddDate(0, 0, -91))
		if _, err := f.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.inviteStates(steve); !slices.Equal(got, []claim.Status{claim.Live}) {
			t.Errorf("invites = %v, want one live", got)
		}
	})
}
