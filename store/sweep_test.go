package store

import (
	"fmt"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
)

// settled leaves a message that was worked, posted and answered so many days ago.
func (f *family) settled(sender string, days int) gateway.Arrival {
	f.t.Helper()
	a := f.arrival(f.instance, adapters.Telegram, sender, sender, false, "what Steve wrote")
	a.Message.AltKey = a.Message.Key + "alt"
	a.Secret = &gateway.Secret{Raw: []byte("canary")}
	f.take(a)
	mustExec(f.t, f.Store, `
		insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, event_type, status, due_at, created_at, settled_at)
		values ($1, $2, $3, $4, $5, 'message.received', 'delivered', $6, $6, $6)`, newID(), f.tenant, a.ConversationID, f.instance, a.ID, f.now())
	f.reply(a, a.ID)
	f.age(days, a)
	return a
}

// reply leaves a reply to a message that was sent.
func (f *family) reply(a gateway.Arrival, message string) {
	f.t.Helper()
	mustExec(f.t, f.Store, `
		insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, cause, message_id, status, due_at, created_at, updated_at)
		values ($1, $2, $3, $4, 'telegram', $5, 'sealed', 'what Steve was answered', 'agent', $6, 'sent', $7, $7, $7)`,
		newID(), f.tenant, a.ConversationID, f.instance, a.Message.Sender.ID, orNull(message), f.now())
}

// age makes a message worked, and all of its conversation so many days old.
func (f *family) age(days int, a gateway.Arrival) {
	f.t.Helper()
	then := f.d.in(-days * day)
	mustExec(f.t, f.Store, `update messages set state = 'done', received_at = `+then+` where conversation_id = $1`, a.ConversationID)
	mustExec(f.t, f.Store, `update deliveries set created_at = `+then+`, settled_at = `+then+` where conversation_id = $1`, a.ConversationID)
	mustExec(f.t, f.Store, `update outbox set created_at = `+then+`, updated_at = `+then+` where conversation_id = $1`, a.ConversationID)
}

// left says what is left of a conversation: "empty 1 2 3" is a message without its
// texts, one event, two replies that have theirs and three that do not.
func (f *family) left(a gateway.Arrival) string {
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

func (f *family) sweep() int64 {
	f.t.Helper()
	n, err := f.Sweep(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// What is done is kept for a while, and what is not until it is, whoever's it is.
func TestSweepKeepsTextsAndKeysForAWhile(t *testing.T) {
	tests := map[string]func(*testing.T, *family){}
	for _, c := range []struct {
		name string
		days int
		and  func(f *family, a gateway.Arrival)
		want string // as left says it
	}{
		{"AfterAnHourAllIsThere", 0, nil, "full 1 1 0"},
		{"At29DaysAllIsThere", 29, nil, "full 1 1 0"},
		{"At31DaysTextsAreGone", 31, nil, "empty 1 0 1"},
		{"At89DaysTheKeyIsThere", 89, nil, "empty 1 0 1"},
		{"At91DaysAllIsGone", 91, nil, "gone 0 0 0"},
		{"DeadIsSettled", 31, set(`update messages set state = 'dead' where id = $1`), "empty 1 0 1"},
		{"DeadIsRemoved", 91, set(`update messages set state = 'dead' where id = $1`), "gone 0 0 0"},
		{"Quarantined", 31, set(`update messages set kind = 'undecodable' where id = $1`), "empty 1 0 1"},
		{"UnsettledStays", 400, set(`update messages set state = 'new' where id = $1`), "full 1 0 0"},
		{"NotPostedYet", 31, set(`update deliveries set status = 'pending', settled_at = null where message_id = $1`), "full 1 0 1"},
		{"NeverPosted", 400, set(`update deliveries set status = 'pending', settled_at = null where message_id = $1`), "full 1 0 0"},
		{"NotToBePosted", 91, set(`update deliveries set status = 'dead' where message_id = $1`), "gone 0 0 0"},
		{"NotSentYet", 31, set(`update outbox set status = 'queued' where message_id = $1`), "empty 1 1 0"},
		{"BeingSent", 400, set(`update outbox set status = 'sending' where message_id = $1`), "empty 1 1 0"},
		{"NeverSent", 31, set(`update outbox set status = 'failed' where message_id = $1`), "empty 1 0 1"},
		{"SentLater", 31, func(f *family, a gateway.Arrival) {
			mustExec(f.t, f.Store, `update outbox set updated_at = $2 where message_id = $1`, a.ID, f.now())
		}, "empty 1 1 0"},
		{"AnswersNothing", 31, set(`update outbox set message_id = null where message_id = $1`), "empty 1 0 1"},
		{"AnsweredNothing", 91, set(`update outbox set message_id = null where message_id = $1`), "gone 0 0 0"},
		{"EventOfNoMessage", 91, set(`update deliveries set message_id = null where message_id = $1`), "gone 0 0 0"},
		{"NewerEventOfNoMessage", 89, set(`update deliveries set message_id = null where message_id = $1`), "empty 1 0 1"},
		{"EventOfNoMessageNotPosted", 91, set(`update deliveries set message_id = null, status = 'pending', settled_at = null where message_id = $1`), "gone 1 0 0"},
	} {
		tests[c.name] = func(t *testing.T, f *family) {
			foreign := newFamily(t, f.Store)
			as := map[*family]gateway.Arrival{f: f.settled("1", c.days), foreign: foreign.settled("1", c.days)}
			for f, a := range as {
				if c.and != nil {
					c.and(f, a)
				}
			}
			f.sweep()
			for f, a := range as {
				if got := f.left(a); got != c.want {
					t.Errorf("left is %q; want %q", got, c.want)
				}
			}
			if n := f.sweep(); n != 0 {
				t.Errorf("a second sweep changed %d rows", n)
			}
		}
	}
	families(t, tests)
}

// set changes what belongs to a message.
func set(query string) func(*family, gateway.Arrival) {
	return func(f *family, a gateway.Arrival) { mustExec(f.t, f.Store, query, a.ID) }
}

func TestSweptMessageIsKnownStill(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		again := func(a gateway.Arrival) int {
			t.Helper()
			a.ID = newID()
			n, err := f.Take(t.Context(), []gateway.Arrival{a}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		empty, gone := f.settled("1", 31), f.settled("2", 91)
		f.sweep()
		byAlt := empty
		byAlt.Message.Key = newID()
		if n := again(empty) + again(byAlt); n != 0 {
			t.Errorf("a message whose text is gone was stored %d times more", n)
		}
		if n := again(gone); n != 1 {
			t.Errorf("a message whose key is gone was stored %d times", n)
		}
	}})
}

// A message that was emptied can be exported and erased.
func TestSweptMessageIsReadStill(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		customer, _ := f.customer("steve@example.com", 1)
		a := f.settled(fmt.Sprint(f.serial), 31)
		f.sweep()
		talks, err := f.CustomerTalks(t.Context(), f.tenant, customer, "")
		if err != nil || len(talks) != 1 {
			t.Fatalf("%+v, %v", talks, err)
		}
		ms, err := f.Received(t.Context(), talks[0], 0, 10)
		if err != nil || len(ms) != 1 || ms[0].ID != a.ID || ms[0].Text != "" || len(ms[0].Attachments) != 0 || !ms[0].SentAt.IsZero() {
			t.Errorf("received %+v, %v", ms, err)
		}
		rs, err := f.Replies(t.Context(), talks[0], 0, 10)
		if err != nil || len(rs) != 1 || rs[0].Text != "" {
			t.Errorf("replies %+v, %v", rs, err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, customer, "key:k"); err != nil || f.left(a) != "gone 0 0 0" {
			t.Errorf("erased: %q, %v", f.left(a), err)
		}
	}})
}

// More than one batch is swept, and two replicas that sweep at once do not fight.
func TestSweepInBatches(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		many := make([]gateway.Arrival, 2*sweepAtOnce+sweepAtOnce/2)
		for i := range many {
			many[i] = f.arrival(f.instance, adapters.Telegram, "1", "1", false, "what Steve wrote")
		}
		f.take(many...)
		mustExec(t, f.Store, `
			insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, event_type, status, due_at, created_at, settled_at)
			select id, tenant_id, conversation_id, instance_id, id, 'message.received', 'delivered', received_at, received_at, received_at from messages where conversation_id = $1`, many[0].ConversationID)
		f.age(31, many[0])
		if n := f.sweep(); n != int64(len(many)) {
			t.Errorf("emptied %d of %d", n, len(many))
		}
		f.age(91, many[0])
		swept := make(chan error)
		for range 2 {
			go func() {
				_, err := f.Sweep(t.Context())
				swept <- err
			}()
		}
		for range 2 {
			if err := <-swept; err != nil {
				t.Error(err)
			}
		}
		f.sweep() // what one replica left to the other
		if got := f.left(many[0]); got != "gone 0 0 0" {
			t.Errorf("left is %q", got)
		}
		if n := queryText(t, f.Store, `select cast(count(*) as text) from messages where conversation_id = $1`, many[0].ConversationID); n != "0" {
			t.Errorf("%s messages are left", n)
		}
	}})
}

// TestSweepReadsIndexes holds each statement of a sweep to the rows that it takes.
func TestSweepReadsIndexes(t *testing.T) {
	families(t, map[string]func(*testing.T, *family){"": func(t *testing.T, f *family) {
		if f.Engine() != "sqlite" {
			t.Skip("Postgres decides by how much there is")
		}
		for _, queries := range [][]string{f.emptyMessages(), f.emptyReplies(), f.removeMessages(), f.removeReplies(), f.removeEvents()} {
			for _, q := range queries {
				rs, err := f.db.Query(t.Context(), `explain query plan `+q)
				steps, err := all(rs, err, func(sc scan) (step string, err error) {
					var id, parent, unused int
					return step, sc(&id, &parent, &unused, &step)
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
	}})
}
