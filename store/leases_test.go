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
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		h.insertMessages(h.arrival("1", "k1", "a"), h.arrival("2", "k2", "b"))
		first := h.lease(gateway.InboxQueue, "one")
		if len(first) != 2 {
			t.Fatalf("leased %d lanes; want 2", len(first))
		}
		h.insertMessages(h.arrival("1", "k3", "c"))
		if again := h.lease(gateway.InboxQueue, "two"); len(again) != 0 {
			t.Fatalf("a held lane was leased again: %+v", again)
		}
		// What came meanwhile makes the lane due when it is given back.
		h.apply(gateway.Commit{Lease: first[0], Release: true})
		h.apply(gateway.Commit{Lease: first[1], Release: true})
		if again := h.lease(gateway.InboxQueue, "two"); len(again) != 1 ||
			again[0].ConversationID != gateway.ConversationID(h.instance, adapters.Telegram, "1") {
			t.Fatalf("after the release: %+v", again)
		}
	})
}

func TestApply_LostLease(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		h.insertMessages(h.arrival("1", "k1", "a"))
		old := h.lease(gateway.InboxQueue, "one")[0]
		if _, err := h.db.Exec(t.Context(), `update lanes set lease_until = $1, due_at = $1`,
			time.Now().UTC().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		now := h.lease(gateway.InboxQueue, "two")[0]
		in := h.inbound(now)[0]
		err := h.Apply(t.Context(), gateway.Commit{Lease: old, Release: true,
			Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "stale"}}})
		if !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("settling under a lost lease: %v; want ErrLeaseLost", err)
		}
		if left := h.inbound(now); len(left) != 1 {
			t.Fatalf("the stale holder settled the message")
		}
		h.apply(gateway.Commit{Lease: now, Release: true,
			Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}}})
		if left := h.inbound(now); len(left) != 0 {
			t.Fatalf("the message is still there")
		}
	})
}

func TestReleaseStale(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		h.insertMessages(h.arrival("1", "k1", "a"))
		dead := h.lease(gateway.InboxQueue, "one")[0]
		if waits := h.lease(gateway.InboxQueue, "two"); len(waits) != 0 {
			t.Fatalf("leased twice: %+v", waits)
		}
		if err := h.ReleaseStale(t.Context()); err != nil {
			t.Fatal(err)
		}
		heir := h.lease(gateway.InboxQueue, "two")
		if len(heir) != 1 {
			t.Fatalf("the heir has %+v", heir)
		}
		in := h.inbound(heir[0])
		for _, l := range []gateway.Lease{dead, heir[0]} {
			err := h.Apply(t.Context(), gateway.Commit{Lease: l, Release: true,
				Messages: []gateway.MessageResult{{ID: in[0].ID, Outcome: "forwarded"}}})
			if lost := errors.Is(err, gateway.ErrLeaseLost); lost != (l.Holder == "one") {
				t.Errorf("%s settles: %v", l.Holder, err)
			}
		}
	})
}

// Lanes of instances that are to be spared are left where they are.
func TestLease_ExcludedInstances(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, one fixture) {
		other := newFixture(t, one.Store)
		one.insertMessages(one.arrival("1", "k1", "hello"))
		other.insertMessages(other.arrival("2", "k2", "hello"))
		lease := func(spared ...string) string {
			ls, err := one.Lease(t.Context(), gateway.InboxQueue, "a", 10, spared...)
			if err != nil {
				t.Fatal(err)
			}
			var of []string
			for _, l := range ls {
				of = append(of, l.InstanceID)
			}
			return strings.Join(of, " ")
		}
		if got := lease(one.instance, other.instance); got != "" {
			t.Errorf("both are spared, and lanes of %s are leased", got)
		}
		if got := lease(one.instance); got != other.instance {
			t.Errorf("one is spared, and lanes of %q are leased; want one of the other's", got)
		}
		if got := lease(); got != one.instance {
			t.Errorf("then lanes of %q are leased; want the one that was spared", got)
		}
	})
}
