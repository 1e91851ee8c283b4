package store

import (
	"errors"
	"strings"
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
