package store

import (
	"fmt"
	"testing"
	"time"

	"hydragate/gateway"
)

// TestPendingMessages_AboveLimit checks which messages exceed gateway.MessagesPerMinute: those of a sender
// who wrote that many in the minute before, in the same conversation.
func TestPendingMessages_AboveLimit(t *testing.T) {
	const limit = gateway.MessagesPerMinute
	forEachFixture(t, func(t *testing.T, f *fixture) {
		n := 0
		add := func(chat, sender string, count int, age time.Duration) {
			var messages []gateway.IncomingMessage
			for range count {
				n++
				m := f.arrival(chat, fmt.Sprint("k", n), "hello")
				m.Message.Sender.ID, m.Message.Chat.Group = sender, chat != sender
				m.ReceivedAt = time.Now().Add(-age)
				messages = append(messages, m)
			}
			f.insertMessages(messages...)
		}
		add("1", "1", limit+2, time.Second)
		add("2", "2", limit, 2*time.Minute) // long ago
		add("2", "2", 2, time.Second)
		add("3", "a", limit/2, time.Second) // a busy group
		add("3", "b", limit/2, time.Second)
		add("3", "a", limit/2+1, time.Second)
		add("3", "b", 1, time.Second)
		want := map[string]string{"1": "[30 31]", "2": "[]", "3": "[45]"}
		for _, l := range f.lease(gateway.InboxQueue, "test") {
			chat, above := "", []int{}
			for done := 0; ; {
				pending := f.pending(l)
				if len(pending) == 0 {
					break
				}
				c := gateway.Commit{Lease: l}
				for _, in := range pending {
					if chat = in.Message.Chat.ID; in.AboveLimit {
						above = append(above, done)
					}
					done++
					c.Messages = append(c.Messages, gateway.MessageResult{ID: in.ID, Outcome: "forwarded"})
				}
				f.apply(c)
			}
			if got := fmt.Sprint(above); got != want[chat] {
				t.Errorf("messages above the limit in chat %s = %s, want %s", chat, got, want[chat])
			}
		}
	})
}

// TestFormedEvent checks that the deliveries of an event are stored, with the time for which they wait.
func TestFormedEvent(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"), f.arrival("1", "k2", "b"), f.arrival("1", "k3", "c"))
		inbox := f.lease(gateway.InboxQueue, "test")[0]
		c, key, ids := gateway.Commit{Lease: inbox, Release: true}, newID(), []string{}
		for _, in := range f.pending(inbox) {
			d := gateway.Delivery{
				ID: newID(), TenantID: f.tenant, ConversationID: in.ConversationID, InstanceID: f.instance, MessageID: in.ID,
				Type: "message.received", JoinKey: key, JoinWait: time.Hour,
			}
			c.Messages = append(c.Messages, gateway.MessageResult{ID: in.ID, Outcome: "forwarded"})
			c.Deliveries, ids = append(c.Deliveries, d), append(ids, d.ID)
		}
		f.apply(c)
		if due := f.lease(gateway.DeliveryQueue, "test"); len(due) > 0 {
			t.Fatalf("leases = %+v, want none before the wait has passed", due)
		}
		mustExec(t, f.Store, `update lanes set due_at = $1 where kind = 'delivery'`, time.Now().UTC().Add(-time.Minute))
		l := f.lease(gateway.DeliveryQueue, "test")[0]
		f.apply(gateway.Commit{Lease: l, FormedEvent: ids[:2]})
		es, err := f.PendingEvents(t.Context(), l)
		must(t, err)
		if len(es) != 3 {
			t.Fatalf("pending deliveries = %d, want 3", len(es))
		}
		for i, want := range []string{ids[0], ids[0], ""} {
			if e := es[i]; e.EventID != want || e.JoinKey != key || e.Delay < time.Hour-time.Minute {
				t.Errorf(
					"delivery %d = event %q, key %q, due in %s, want %q, %q and an hour",
					i,
					e.EventID,
					e.JoinKey,
					e.Delay,
					want,
					key,
				)
			}
		}
	})
}

// TestEmptiedMessages checks that a message that its author deleted loses its content while it waits for its
// delivery, and that other messages and delivered ones keep theirs.
func TestEmptiedMessages(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		ids := []string{"11", "12", "11"}
		for i, id := range ids {
			m := f.arrival("1", fmt.Sprint("k", i), "secret words")
			m.Message.ProviderID, m.Message.Action = id, "secret value"
			f.insertMessages(m)
		}
		inbox := f.lease(gateway.InboxQueue, "test")[0]
		c := gateway.Commit{Lease: inbox}
		pending := f.pending(inbox)
		for _, in := range pending {
			c.Messages = append(c.Messages, gateway.MessageResult{ID: in.ID, Outcome: "forwarded"})
			c.Deliveries = append(c.Deliveries, gateway.Delivery{
				ID: newID(), TenantID: f.tenant, ConversationID: in.ConversationID, InstanceID: f.instance, MessageID: in.ID,
				Type: "message.received",
			})
		}
		f.apply(c)
		l := f.lease(gateway.DeliveryQueue, "test")[0]
		f.apply(gateway.Commit{Lease: l, DeliveryResults: []gateway.DeliveryResult{
			{ID: c.Deliveries[0].ID, Status: gateway.Delivered},
		}})
		versions, err := f.UndeliveredVersions(t.Context(), pending[0])
		must(t, err)
		if len(versions) != 1 || versions[0].ID != pending[2].ID {
			t.Fatalf("undelivered versions = %+v, want the last message", versions)
		}
		emptied := gateway.EmptiedMessage{ID: versions[0].ID}
		emptied.Message.Deleted, emptied.Message.ProviderID = true, "11"
		f.apply(gateway.Commit{Lease: inbox, EmptiedMessages: []gateway.EmptiedMessage{emptied}})
		es, err := f.PendingEvents(t.Context(), l)
		must(t, err)
		if len(es) != 2 || es[0].Message.Deleted || es[0].Message.Text == "" {
			t.Errorf("events = %+v, want another message unchanged", es)
		}
		if m := es[1].Message; !m.Deleted || m.Text != "" || m.Action != "" || m.ProviderID != "11" {
			t.Errorf("deleted message = %+v, want no content", m)
		}
	})
}
