package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

func TestLease_SingleHolder(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"), f.arrival("2", "k2", "b"))
		first := f.lease(gateway.InboxQueue, "one")
		if len(first) != 2 {
			t.Fatalf("leased %d queues, want 2", len(first))
		}
		f.insertMessages(f.arrival("1", "k3", "c"))
		if again := f.lease(gateway.InboxQueue, "two"); len(again) != 0 {
			t.Fatalf("a leased queue was leased again: %+v", again)
		}
		// A message that arrived during the lease makes the queue due when it is released.
		f.apply(gateway.Commit{Lease: first[0], Release: true})
		f.apply(gateway.Commit{Lease: first[1], Release: true})
		if again := f.lease(gateway.InboxQueue, "two"); len(again) != 1 ||
			again[0].ConversationID != gateway.ConversationID(f.instance, adapters.Telegram, "1") {
			t.Fatalf("leases after the release = %+v, want one", again)
		}
	})
}

func TestApply_LostLease(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"))
		old := f.lease(gateway.InboxQueue, "one")[0]
		if _, err := f.db.Exec(t.Context(), `update lanes set lease_until = $1, due_at = $1`,
			time.Now().UTC().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		now := f.lease(gateway.InboxQueue, "two")[0]
		in := f.pending(now)[0]
		err := f.Apply(t.Context(), gateway.Commit{
			Lease: old, Release: true,
			Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "stale"}},
		})
		if !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("Apply() with a lost lease = %v, want ErrLeaseLost", err)
		}
		if left := f.pending(now); len(left) != 1 {
			t.Fatal("a commit with a lost lease was stored")
		}
		f.apply(gateway.Commit{
			Lease: now, Release: true,
			Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}},
		})
		if left := f.pending(now); len(left) != 0 {
			t.Fatal("the message is still pending")
		}
	})
}

func TestReleaseStale(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"))
		stale := f.lease(gateway.InboxQueue, "one")[0]
		if again := f.lease(gateway.InboxQueue, "two"); len(again) != 0 {
			t.Fatalf("leased twice: %+v", again)
		}
		if err := f.ReleaseStale(t.Context()); err != nil {
			t.Fatal(err)
		}
		released := f.lease(gateway.InboxQueue, "two")
		if len(released) != 1 {
			t.Fatalf("leases after ReleaseStale() = %+v, want one", released)
		}
		in := f.pending(released[0])
		for _, l := range []gateway.Lease{stale, released[0]} {
			err := f.Apply(t.Context(), gateway.Commit{
				Lease: l, Release: true,
				Messages: []gateway.MessageResult{{ID: in[0].ID, Outcome: "forwarded"}},
			})
			if lost := errors.Is(err, gateway.ErrLeaseLost); lost != (l.Holder == "one") {
				t.Errorf("Apply() by %s = %v", l.Holder, err)
			}
		}
	})
}

// TestLease_ExcludedInstances tests that queues of excluded instances are not leased.
func TestLease_ExcludedInstances(t *testing.T) {
	forEachFixture(t, func(t *testing.T, one *fixture) {
		other := newFixture(t, one.Store)
		one.insertMessages(one.arrival("1", "k1", "hello"))
		other.insertMessages(other.arrival("2", "k2", "hello"))
		lease := func(excluded ...string) string {
			ls, err := one.Lease(t.Context(), gateway.InboxQueue, "a", 10, excluded...)
			if err != nil {
				t.Fatal(err)
			}
			var instances []string
			for _, l := range ls {
				instances = append(instances, l.InstanceID)
			}
			return strings.Join(instances, " ")
		}
		if got := lease(one.instance, other.instance); got != "" {
			t.Errorf("leased queues of %q with both instances excluded, want none", got)
		}
		if got := lease(one.instance); got != other.instance {
			t.Errorf("leased queues of %q with one instance excluded, want those of the other", got)
		}
		if got := lease(); got != one.instance {
			t.Errorf("leased queues of %q without exclusion, want those excluded before", got)
		}
	})
}

// TestMoveConversation checks that a group remains one conversation when it gets another ID while messages are
// received and sent: no message is lost or is in two conversations, and replies go to the new ID.
func TestMoveConversation(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		const before, after = "-45", "-10045"
		chat := adapters.ChatMove{From: before, To: after}
		move := gateway.NewConversationMove(f.tenant, f.instance, adapters.Telegram, chat)
		reply := func(chat, replyTo string) gateway.OutboxRow {
			o := f.reply("Hi.")
			o.ConversationID, o.Chat, o.ReplyTo = move.From, adapters.Chat{ID: chat, Group: true}, replyTo
			return o
		}
		f.insertMessages(f.arrival(before, "m0", "hello"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		f.apply(gateway.Commit{
			Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: f.pending(l)[0].ID, Outcome: "forwarded"}},
			Replies: []gateway.OutboxRow{reply(before, "7"), reply(after, "8")},
		})
		// One message with the new ID is early, and its conversation is leased.
		f.insertMessages(f.arrival(after, "m1", "early"))
		early := f.lease(gateway.InboxQueue, "one")[0]
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				service := f.arrival([]string{before, after}[i%2], fmt.Sprintf("s%d", i%2), "")
				service.Move, service.ConversationID = &move, move.From
				messages := []gateway.IncomingMessage{f.arrival(after, fmt.Sprintf("n%d", i), "later"), service}
				var err error
				if i%4 == 3 {
					err = f.MoveConversation(t.Context(), move)
				}
				_, insertErr := f.InsertMessages(t.Context(), messages, nil)
				if err := errors.Join(err, insertErr); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		f.insertMessages(f.arrival(after, "last", "last"))
		err := f.Apply(t.Context(), gateway.Commit{Lease: early, Release: true})
		if !errors.Is(err, gateway.ErrLeaseLost) {
			t.Errorf("Apply() to the moved queue = %v, want ErrLeaseLost", err)
		}
		leases := f.lease(gateway.InboxQueue, "one")
		if len(leases) != 1 || leases[0].ConversationID != move.From {
			t.Fatalf("Lease() = %+v, want the first conversation alone", leases)
		}
		const count = `select cast(count(*) as text) from messages where state = 'new' and conversation_id = $1`
		if got := queryText(t, f.Store, count, move.From); got != "12" {
			t.Errorf("%s messages wait in the conversation, want 12", got)
		}
		rows, _, err := f.PendingReplies(t.Context(), f.lease(gateway.OutboxQueue, "one")[0])
		if err != nil || len(rows) != 2 {
			t.Fatalf("PendingReplies() = %+v, %v, want two", rows, err)
		}
		for i, replyTo := range []string{"", "8"} {
			if rows[i].Chat.ID != after || rows[i].ReplyTo != replyTo {
				t.Errorf("reply %d to %s and message %q, want %s and %q", i, rows[i].Chat.ID, rows[i].ReplyTo, after, replyTo)
			}
		}
	})
}

// TestMoveConversation_Unusual checks that a move that cannot be is without effect.
func TestMoveConversation_Unusual(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for _, chat := range []adapters.ChatMove{{From: "-1", To: "-1"}, {From: "-1", To: "-2"}, {From: "-2", To: "-1"}} {
			move := gateway.NewConversationMove(f.tenant, f.instance, adapters.Telegram, chat)
			must(t, f.MoveConversation(t.Context(), move))
		}
		f.insertMessages(f.arrival("-1", "m1", "a"), f.arrival("-2", "m2", "b"))
		leases := f.lease(gateway.InboxQueue, "one")
		if len(leases) != 1 || len(f.pending(leases[0])) != 2 {
			t.Errorf("Lease() = %+v, want one conversation with both messages", leases)
		}
	})
}
