package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// TestSubscription_Events checks that the application receives one event for each opt-out and opt-in,
// however it becomes known and however often, if it is subscribed.
func TestSubscription_Events(t *testing.T) {
	yes, no := true, false
	optOut := func(f *fixture, l gateway.Lease, id string, v *bool) {
		f.apply(gateway.Commit{Lease: l, IdentityUpdates: []gateway.IdentityUpdate{{IdentityID: id, OptedOut: v}}})
	}
	refuse := func(f *fixture, l gateway.Lease) {
		f.apply(gateway.Commit{
			Lease: l, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID, OptedOut: true},
		})
	}
	const both, neither = ",identity.opted_out,identity.opted_in,", ",message.received,"
	for name, c := range map[string]struct {
		events any
		change func(f *fixture, l gateway.Lease, id string)
		want   string
	}{
		"keyword": {both, func(f *fixture, l gateway.Lease, id string) { optOut(f, l, id, &yes) }, "identity.opted_out"},
		"refused": {both, func(f *fixture, l gateway.Lease, _ string) { refuse(f, l) }, "identity.opted_out"},
		"two receipts": {both, func(f *fixture, l gateway.Lease, _ string) {
			f.applyReceipt(l, adapters.Receipt{ProviderID: "p1", Status: adapters.Failed, Code: "21610", OptedOut: true})
		}, "identity.opted_out"},
		"all of these": {both, func(f *fixture, l gateway.Lease, id string) {
			optOut(f, l, id, &yes)
			refuse(f, l)
			optOut(f, l, id, &yes)
			f.applyReceipt(l, adapters.Receipt{ProviderID: "p1", Status: adapters.Failed, Code: "21610", OptedOut: true})
		}, "identity.opted_out"},
		"in and out": {both, func(f *fixture, l gateway.Lease, id string) {
			for _, v := range []*bool{&no, &yes, &yes, &no, &no, &yes} {
				optOut(f, l, id, v)
			}
		}, "identity.opted_out identity.opted_in identity.opted_out"},
		"one type": {",identity.opted_in,", func(f *fixture, l gateway.Lease, id string) {
			optOut(f, l, id, &yes)
		}, ""},
		"not subscribed": {neither, func(f *fixture, l gateway.Lease, id string) { optOut(f, l, id, &yes) }, ""},
		"default":        {nil, func(f *fixture, l gateway.Lease, _ string) { refuse(f, l) }, ""},
		"blocked": {both, func(f *fixture, l gateway.Lease, _ string) {
			f.apply(gateway.Commit{Lease: l, Unreachable: &gateway.Unreachable{ConversationID: l.ConversationID}})
		}, ""},
		"unknown sender": {both, func(f *fixture, l gateway.Lease, id string) {
			mustExec(f.t, f.Store, `update identities set customer_id = null where id = $1`, id)
			optOut(f, l, id, &yes)
		}, "identity.opted_out"},
		"unknown sender, not forwarded": {both, func(f *fixture, l gateway.Lease, id string) {
			mustExec(f.t, f.Store, `update identities set customer_id = null where id = $1`, id)
			mustExec(f.t, f.Store, `update instances set unknown_senders = 'drop' where id = $1`, f.instance)
			optOut(f, l, id, &yes)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				l, id := f.subscriber(c.events)
				c.change(f, l, id)
				var got []string
				for _, e := range f.pendingEvents(l.ConversationID) {
					got = append(got, string(e.Type))
					if e.Sender.ID != id || e.InstanceID != f.instance {
						t.Errorf("event = %+v, want identity %s and instance %s", e, id, f.instance)
					}
				}
				if got := strings.Join(got, " "); got != c.want {
					t.Errorf("events = %q, want %q", got, c.want)
				}
			})
		})
	}
}

// subscriber creates a conversation with an identity of a customer, at an instance whose application
// receives types of events.
func (f *fixture) subscriber(events any) (l gateway.Lease, identityID string) {
	f.t.Helper()
	mustExec(f.t, f.Store, `update instances set events = $2, agent_url = 'http://127.0.0.1' where id = $1`,
		f.instance, events)
	_, id := f.createCustomerIdentity("1")
	f.insertMessages(f.arrival("1", "m1", "hello"))
	l = f.lease(gateway.InboxQueue, "one")[0]
	mustExec(f.t, f.Store, `update conversations set identity_id = $2 where id = $1`, l.ConversationID, id)
	return l, id
}

// pendingEvents leases the delivery queue of a conversation if it is due, and returns its events.
func (f *fixture) pendingEvents(conversation string) (events []gateway.Event) {
	f.t.Helper()
	for _, l := range f.lease(gateway.DeliveryQueue, "events") {
		if l.ConversationID == conversation {
			es, err := f.PendingEvents(f.t.Context(), l)
			must(f.t, err)
			f.apply(gateway.Commit{Lease: l, Release: true, Next: f.now()})
			events = append(events, es...)
		}
	}
	return events
}

// TestSubscription_Concurrent checks that concurrent reports of one opt-out cause one event.
func TestSubscription_Concurrent(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		l, id := f.subscriber(",identity.opted_out,")
		f.applyReceipt(l, adapters.Receipt{ProviderID: "p1", Status: adapters.Sent})
		ep := adapters.Endpoint{TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram}
		yes := true
		errs := make([]error, 8)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				if i == 0 {
					errs[i] = f.Apply(t.Context(), gateway.Commit{
						Lease: l, IdentityUpdates: []gateway.IdentityUpdate{{IdentityID: id, OptedOut: &yes}},
					})
					return
				}
				errs[i] = f.ApplyReceipts(t.Context(), ep, []adapters.Receipt{{
					ProviderID: "p1", Status: adapters.Failed, Code: fmt.Sprint(i), OptedOut: true,
				}})
			})
		}
		all.Wait()
		for _, err := range errs {
			must(t, err)
		}
		if es := f.pendingEvents(l.ConversationID); len(es) != 1 {
			t.Errorf("events = %d, want 1", len(es))
		}
	})
}

// TestPendingEvents_Notices checks that notices that wait for their next attempt do not take the place of
// other events, and that the next of them is known.
func TestPendingEvents_Notices(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		l, id := f.subscriber(",message.received,identity.opted_out,identity.opted_in,")
		in := f.pending(l)[0]
		commit := gateway.Commit{Lease: l, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}}}
		for range gateway.FetchLimit + 1 {
			commit.Deliveries = append(commit.Deliveries, gateway.Delivery{
				ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance, IdentityID: id,
				Type: gateway.IdentityOptedOut,
			})
		}
		commit.Deliveries = append(commit.Deliveries, gateway.Delivery{
			ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance, MessageID: in.ID,
			Type: gateway.MessageReceived,
		})
		f.apply(commit)
		types := func(es []gateway.Event) (all []string) {
			for _, e := range es {
				all = append(all, string(e.Type))
			}
			return slices.Compact(all)
		}
		delivery := f.lease(gateway.DeliveryQueue, "one")[0]
		es, err := f.PendingEvents(t.Context(), delivery)
		if got := types(es); err != nil || len(es) != gateway.FetchLimit || len(got) != 1 || es[0].Delay > 0 {
			t.Errorf("PendingEvents() = %v, %v, want due notices", got, err)
		}
		var failed []gateway.DeliveryResult
		for i, d := range commit.Deliveries[:gateway.FetchLimit+1] {
			failed = append(failed, gateway.DeliveryResult{
				ID: d.ID, Status: gateway.Pending, Delay: time.Duration(40-i) * time.Minute,
			})
		}
		f.apply(gateway.Commit{Lease: delivery, DeliveryResults: failed})
		es, err = f.PendingEvents(t.Context(), delivery)
		if err != nil || len(es) != 2 || es[1].Type != gateway.MessageReceived {
			t.Fatalf("PendingEvents() = %v, %v, want the message and one notice", types(es), err)
		}
		if got, want := es[0].Delay.Round(time.Minute), failed[gateway.FetchLimit].Delay; got != want {
			t.Errorf("next notice in %v, want %v", got, want)
		}
	})
}
