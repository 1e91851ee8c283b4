package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

const tenant = identity.DefaultTenant

// a house is a store with one instance in it.
type house struct {
	*Store
	t        *testing.T
	instance string
}

func newHouse(t *testing.T, s *Store) house {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: tenant, Name: "acme", UnknownSenders: gateway.Forward},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + newID(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	return house{s, t, i.ID}
}

func (h house) arrival(sender, key, text string) gateway.Arrival {
	return gateway.Arrival{
		ID: newID(), TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram,
		ConversationID: gateway.ConversationID(h.instance, adapters.Telegram, sender),
		Message: adapters.Message{
			Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender, Name: "Steve"}, Place: adapters.Place{ID: sender},
		},
	}
}

func (h house) take(as ...gateway.Arrival) int {
	h.t.Helper()
	n, err := h.Take(h.t.Context(), as, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func (h house) lease(kind gateway.LaneKind, holder string) []gateway.Lease {
	h.t.Helper()
	ls, err := h.Lease(h.t.Context(), kind, holder, 10)
	if err != nil {
		h.t.Fatal(err)
	}
	return ls
}

func (h house) inbound(l gateway.Lease) []gateway.Inbound {
	h.t.Helper()
	ins, err := h.Inbound(h.t.Context(), l)
	if err != nil {
		h.t.Fatal(err)
	}
	return ins
}

func (h house) settle(s gateway.Settlement) {
	h.t.Helper()
	if err := h.Settle(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
}

// steve is a customer with an identity that was never verified.
func (h house) steve(external string) (customer, id string) {
	h.t.Helper()
	c, err := h.CreateCustomer(h.t.Context(), identity.Customer{TenantID: tenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	i, err := h.Link(h.t.Context(), identity.Identity{TenantID: tenant, CustomerID: c.ID, InstanceID: h.instance, Channel: "telegram", ExternalID: external}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID, i.ID
}

func onBoth(t *testing.T, test func(t *testing.T, h house)) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) { test(t, newHouse(t, open(t))) })
}

func TestTakeStoresOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		a := h.arrival("1", "k1", "hello")
		if n := h.take(a, h.arrival("2", "k2", "hi")); n != 2 {
			t.Fatalf("stored %d of 2", n)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 40 {
			wg.Go(func() {
				again := h.arrival("1", "k1", "hello")
				n, err := h.Take(context.WithoutCancel(t.Context()), []gateway.Arrival{again}, nil)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				total += n
			})
		}
		wg.Wait()
		if total != 0 {
			t.Fatalf("a message stored before was stored %d times more", total)
		}
		alt := h.arrival("1", "k3", "twin")
		alt.Message.AltKey = "twin"
		twin := h.arrival("1", "k4", "twin")
		twin.Message.AltKey = "twin"
		if n := h.take(alt) + h.take(twin); n != 1 {
			t.Fatalf("two announcements of one message stored %d times", n)
		}
	})
}

func TestLaneHasOneHolder(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"), h.arrival("2", "k2", "b"))
		first := h.lease(gateway.InboxLane, "one")
		if len(first) != 2 {
			t.Fatalf("leased %d lanes; want 2", len(first))
		}
		h.take(h.arrival("1", "k3", "c"))
		if again := h.lease(gateway.InboxLane, "two"); len(again) != 0 {
			t.Fatalf("a held lane was leased again: %+v", again)
		}
		// What came meanwhile makes the lane due when it is given back.
		h.settle(gateway.Settlement{Lease: first[0], Release: true})
		h.settle(gateway.Settlement{Lease: first[1], Release: true})
		if again := h.lease(gateway.InboxLane, "two"); len(again) != 1 || again[0].ConversationID != gateway.ConversationID(h.instance, adapters.Telegram, "1") {
			t.Fatalf("after the release: %+v", again)
		}
	})
}

func TestLostLeaseWritesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"))
		old := h.lease(gateway.InboxLane, "one")[0]
		if _, err := h.db.Exec(t.Context(), `update lanes set lease_until = $1, due_at = $1`, time.Now().UTC().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		now := h.lease(gateway.InboxLane, "two")[0]
		in := h.inbound(now)[0]
		err := h.Settle(t.Context(), gateway.Settlement{Lease: old, Release: true, Messages: []gateway.Settled{{ID: in.ID, Outcome: "stale"}}})
		if !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("settling under a lost lease: %v; want ErrLeaseLost", err)
		}
		if left := h.inbound(now); len(left) != 1 {
			t.Fatalf("the stale holder settled the message")
		}
		h.settle(gateway.Settlement{Lease: now, Release: true, Messages: []gateway.Settled{{ID: in.ID, Outcome: "forwarded"}}})
		if left := h.inbound(now); len(left) != 0 {
			t.Fatalf("the message is still there")
		}
	})
}

func TestInheritedLeasesAreFree(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"))
		dead := h.lease(gateway.InboxLane, "one")[0]
		if waits := h.lease(gateway.InboxLane, "two"); len(waits) != 0 {
			t.Fatalf("leased twice: %+v", waits)
		}
		if err := h.Inherit(t.Context()); err != nil {
			t.Fatal(err)
		}
		heir := h.lease(gateway.InboxLane, "two")
		if len(heir) != 1 {
			t.Fatalf("the heir has %+v", heir)
		}
		in := h.inbound(heir[0])
		for _, l := range []gateway.Lease{dead, heir[0]} {
			err := h.Settle(t.Context(), gateway.Settlement{Lease: l, Release: true, Messages: []gateway.Settled{{ID: in[0].ID, Outcome: "forwarded"}}})
			if lost := errors.Is(err, gateway.ErrLeaseLost); lost != (l.Holder == "one") {
				t.Errorf("%s settles: %v", l.Holder, err)
			}
		}
	})
}

func TestInboundKnowsTheSender(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		customer, id := h.steve("1")
		secret := h.arrival("1", "k1", "/claim ******")
		secret.Secret = &gateway.Secret{Text: "/claim WDJBMJ", Answer: "https://hooks.example.com/x"}
		h.take(secret, h.arrival("9", "k2", "who am I"))
		for _, l := range h.lease(gateway.InboxLane, "one") {
			in := h.inbound(l)[0]
			if in.Message.Sender.ID == "9" {
				if in.Sender.ID != "" || in.Sender.Role() != identity.Unknown {
					t.Errorf("a stranger is %+v", in.Sender)
				}
				continue
			}
			if in.Sender.ID != id || in.Sender.CustomerID != customer || in.Sender.Role() != identity.Unverified {
				t.Errorf("steve is %+v", in.Sender)
			}
			if in.Message.Text != "/claim WDJBMJ" || !in.Sealed || in.Message.Place.Answer == "" {
				t.Errorf("unsealed: %+v", in.Message)
			}
			if in.ReceivedAt.IsZero() || time.Since(in.ReceivedAt) > time.Minute {
				t.Errorf("received at %v", in.ReceivedAt)
			}
		}
		var stored string
		rs, err := h.db.Query(t.Context(), `select body || text || coalesce(sealed, '') from messages where key = $1`, "k1")
		stored, err = one(rs, err, scanString)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"WDJBMJ", "hooks.example.com"} {
			if strings.Contains(stored, s) {
				t.Errorf("the table holds %s", s)
			}
		}
	})
}

// claiming prepares an attempt of the identity with a live code.
func (h house) claiming(external string) (claim.Subject, claim.Attempt, gateway.Lease) {
	h.t.Helper()
	customer, id := h.steve(external)
	sub, expires, err := h.Issue(h.t.Context(), tenant, customer, id, "key:test")
	if err != nil {
		h.t.Fatal(err)
	}
	if d := time.Until(expires); d < 14*time.Minute || d > 16*time.Minute {
		h.t.Fatalf("the code expires in %v", d)
	}
	h.take(h.arrival(external, "claim"+external, "/claim ******"))
	for _, l := range h.lease(gateway.InboxLane, "one") {
		for _, in := range h.inbound(l) {
			if in.Message.Sender.ID == external {
				if !in.CodeWaits {
					h.t.Fatal("no code waits")
				}
				return sub, claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: external, IdentityID: id, MessageID: in.ID, ReceivedAt: in.ReceivedAt}, l
			}
		}
	}
	h.t.Fatal("no message")
	return sub, claim.Attempt{}, gateway.Lease{}
}

func TestGrantIsFenced(t *testing.T) {
	for name, spoil := range map[string]string{
		"Good":     ``,
		"Reissued": `update identities set claim_gen = claim_gen + 1`,
		"Used":     `update identities set claim_used_msg = id`,
		"Revoked":  `update identities set claim_revoked_at = claim_expires_at`,
		"Expired":  `update identities set claim_expires_at = '2020-01-01 00:00:00+00:00'`,
		"Verified": `update identities set verified_at = claim_expires_at`,
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, h house) {
				sub, a, l := h.claiming("1")
				st, err := h.State(t.Context(), a)
				if err != nil || st.Fence != claim.Live || st.Subject != sub {
					t.Fatalf("state %+v, %v; want live %+v", st, err, sub)
				}
				if spoil != "" {
					if _, err := h.db.Exec(t.Context(), spoil); err != nil {
						t.Fatal(err)
					}
				}
				err = h.Settle(t.Context(), gateway.Settlement{
					Lease: l, Release: true, Messages: []gateway.Settled{{ID: a.MessageID, Outcome: "claimed"}},
					Claim: &claim.Ruling{Outcome: claim.Granted, Grant: &sub, Attempt: a},
				})
				if spoil != "" {
					if !errors.Is(err, gateway.ErrFenced) {
						t.Fatalf("%v; want ErrFenced", err)
					}
					if len(h.inbound(l)) != 1 {
						t.Fatal("the message was settled though the grant was refused")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				i, email, err := h.Lookup(t.Context(), identity.Address{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: "1"})
				if err != nil || i.Role() != identity.Owner || email != "" {
					t.Fatalf("%+v, %v; want an owner", i, err)
				}
				if st, err := h.State(t.Context(), a); err != nil || !st.Verified || st.UsedBy != a.MessageID {
					t.Fatalf("state after: %+v, %v", st, err)
				}
			})
		})
	}
}

func TestIssueHasLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		customer, id := h.steve("1")
		for n := range 5 {
			s, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test")
			if err != nil || s.Gen != int64(n+1) {
				t.Fatalf("code %d: generation %d, %v", n+1, s.Gen, err)
			}
		}
		_, _, err := h.Issue(t.Context(), tenant, customer, id, "key:test")
		var many *claim.TooMany
		if !errors.As(err, &many) || many.RetryAfter <= 0 || many.RetryAfter > 15*time.Minute {
			t.Fatalf("the sixth code: %v", err)
		}
		_, other := h.steve("2")
		if _, _, err := h.Issue(t.Context(), tenant, customer, other, "key:test"); !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("another customer's identity: %v; want ErrNotFound", err)
		}
	})
}

func TestFailuresCount(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		_, a, l := h.claiming("1")
		for i := range 6 {
			a.MessageID = newID()
			h.settle(gateway.Settlement{Lease: l, Claim: &claim.Ruling{Outcome: claim.Declined, Failure: true, Attempt: a}})
			h.settle(gateway.Settlement{Lease: l, Claim: &claim.Ruling{Outcome: claim.Declined, Failure: true, Attempt: a}}) // counts once
			other := a
			other.MessageID = newID()
			st, err := h.State(t.Context(), other)
			if err != nil || st.Failed.Quarter != i+1 || st.Failed.Day != i+1 {
				t.Fatalf("after %d: %+v, %v", i+1, st.Failed, err)
			}
			if wait := st.Failed.Wait; (wait > 0) != (i+1 >= claim.MaxQuarter) || wait > 15*time.Minute {
				t.Fatalf("after %d: wait %v", i+1, wait)
			}
		}
		stranger := a
		stranger.SenderID, stranger.MessageID = "2", newID()
		if st, err := h.State(t.Context(), stranger); err != nil || st.Failed.Day != 0 {
			t.Fatalf("somebody else's failures count: %+v, %v", st.Failed, err)
		}
	})
}

func TestOutboxInOrderAndReceiptsEarly(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"))
		l := h.lease(gateway.InboxLane, "one")[0]
		var rows []gateway.OutboxRow
		for i := range 3 {
			rows = append(rows, gateway.OutboxRow{
				ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance, Channel: adapters.Telegram,
				Recipient: "1", Place: adapters.Place{ID: "1", Answer: "secret"}, Text: fmt.Sprint(i), Cause: "agent",
			})
		}
		rows[1].Cause, rows[1].Wait = "reminder", 24*time.Hour
		h.settle(gateway.Settlement{Lease: l, Release: true, Replies: rows})
		out := h.lease(gateway.OutboxLane, "one")[0]
		got, next, err := h.Outgoing(t.Context(), out)
		if err != nil || len(got) != 2 || got[0].Text != "0" || got[1].Text != "2" || got[0].Place.Answer != "secret" {
			t.Fatalf("%+v, %v", got, err)
		}
		if d := time.Until(next); d < 23*time.Hour {
			t.Fatalf("the reminder is due in %v", d)
		}
		ep := adapters.Endpoint{TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram}
		if err := h.Receive(t.Context(), ep, []adapters.Receipt{{ProviderID: "p0", Status: adapters.Delivered}, {ProviderID: "p0", Status: adapters.Sent}}); err != nil {
			t.Fatal(err)
		}
		h.settle(gateway.Settlement{Lease: out, SendDone: []gateway.SendResult{{Row: got[0], Status: gateway.Sending}}})
		if got, _, _ := h.Outgoing(t.Context(), out); got[0].Status != gateway.Sending || got[0].Attempts != 1 {
			t.Fatalf("while sending: %+v", got[0])
		}
		h.settle(gateway.Settlement{Lease: out, SendDone: []gateway.SendResult{{Row: got[0], Status: adapters.Sent, ProviderID: "p0"}}})
		rs, err := h.db.Query(t.Context(), `select status from outbox where id = $1`, got[0].ID)
		if s, err := one(rs, err, scanString); err != nil || s != "delivered" {
			t.Fatalf("status %q, %v; want delivered, as the receipt said before", s, err)
		}
	})
}

func TestOutboxTakesAtMostSoMany(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"), h.arrival("2", "k2", "b"))
		ls := h.lease(gateway.InboxLane, "one")
		said := func(l gateway.Lease, cause string, atMost int) (stored bool) {
			t.Helper()
			row := gateway.OutboxRow{
				ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance, Channel: adapters.Telegram,
				Recipient: "1", Place: adapters.Place{ID: "1"}, Text: "hello", Cause: cause, AtMost: atMost,
			}
			h.settle(gateway.Settlement{Lease: l, Replies: []gateway.OutboxRow{row}})
			return queryText(t, h.Store, `select cast(count(*) as text) from outbox where id = $1`, row.ID) == "1"
		}
		for _, step := range []struct {
			of     int // lease
			cause  string
			atMost int
			want   bool
		}{
			{0, "agent", 0, true}, {0, "command", 2, true}, {0, "command", 2, true}, {0, "command", 2, false}, {0, "agent", 2, true},
			{1, "command", 2, true}, {0, "command", 0, true}, {0, "command", 3, false}, {0, "command", 4, true},
		} {
			if got := said(ls[step.of], step.cause, step.atMost); got != step.want {
				t.Errorf("%+v: stored %v", step, got)
			}
		}
		mustExec(t, h.Store, `update outbox set created_at = $1`, time.Now().UTC().Add(-61*time.Minute))
		if !said(ls[0], "command", 1) {
			t.Error("what was said more than an hour ago counts")
		}
	})
}

func TestPollLeaseFencesTheCursor(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		seat, err := h.SaveSeat(t.Context(), gateway.Seat{Status: gateway.Active, Endpoint: adapters.Endpoint{
			TenantID: tenant, InstanceID: h.instance, Channel: adapters.Telegram, Mode: adapters.Polling, Address: "42", Credentials: adapters.Credentials{adapters.BotToken: "42:x"},
		}}, time.Time{}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		epoch, cursor, ok, err := h.TakePoll(t.Context(), tenant, seat.ID, "one")
		if err != nil || !ok || cursor != "" {
			t.Fatalf("take: %v, %v", ok, err)
		}
		if _, _, ok, _ := h.TakePoll(t.Context(), tenant, seat.ID, "two"); ok {
			t.Fatal("two holders")
		}
		c := gateway.Cursor{EndpointID: seat.ID, TenantID: tenant, Holder: "one", Epoch: epoch, Value: "7"}
		if n, err := h.Take(t.Context(), []gateway.Arrival{h.arrival("1", "k1", "a")}, &c); err != nil || n != 1 {
			t.Fatalf("stored %d, %v", n, err)
		}
		if err := h.FreePoll(t.Context(), tenant, seat.ID, "one", epoch); err != nil {
			t.Fatal(err)
		}
		now, cursor, ok, err := h.TakePoll(t.Context(), tenant, seat.ID, "two")
		if err != nil || !ok || now == epoch || cursor != "7" {
			t.Fatalf("second holder: epoch %d after %d, cursor %q, %v", now, epoch, cursor, err)
		}
		if _, err := h.Take(t.Context(), []gateway.Arrival{h.arrival("1", "k2", "b")}, &c); !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("the old holder stored: %v", err)
		}
	})
}

func TestErasedSenderIsNotMetAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		h.take(h.arrival("1", "k1", "a"))
		l := h.lease(gateway.InboxLane, "one")[0]
		if _, err := h.db.Exec(t.Context(), `delete from conversations where tenant_id = $1`, tenant); err != nil {
			t.Fatal(err)
		}
		met := identity.Identity{ID: newID(), TenantID: tenant, InstanceID: h.instance, Channel: "telegram", ExternalID: "1"}
		if err := h.Settle(t.Context(), gateway.Settlement{Lease: l, Release: true, Met: []identity.Identity{met}}); !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("%v; want ErrLeaseLost", err)
		}
	})
}

func TestGrantOfARemovedIdentityFalls(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		sub, a, l := h.claiming("1")
		if _, err := h.db.Exec(t.Context(), `delete from identities where tenant_id = $1 and id = $2`, tenant, a.IdentityID); err != nil {
			t.Fatal(err)
		}
		err := h.Settle(t.Context(), gateway.Settlement{Lease: l, Claim: &claim.Ruling{Outcome: claim.Granted, Grant: &sub, Attempt: a}})
		if !errors.Is(err, gateway.ErrFenced) {
			t.Fatalf("%v; want ErrFenced", err)
		}
	})
}

// Lanes of instances that are to be spared are left where they are.
func TestLeaseSparesInstances(t *testing.T) {
	onBoth(t, func(t *testing.T, one house) {
		other := newHouse(t, one.Store)
		one.take(one.arrival("1", "k1", "hello"))
		other.take(other.arrival("2", "k2", "hello"))
		lease := func(spared ...string) string {
			ls, err := one.Lease(t.Context(), gateway.InboxLane, "a", 10, spared...)
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
