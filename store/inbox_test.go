package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

func TestInsertMessages_OrderOfCommit(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		older := f.arrival("1", "k1", "ID assigned first")
		f.insertMessages(f.arrival("1", "k2", "stored first"))
		f.insertMessages(older)
		f.wantPending("stored first", "ID assigned first")
	})
}

// wantPending checks the texts of the pending messages from sender 1.
func (f *fixture) wantPending(want ...string) {
	f.t.Helper()
	var got []string
	conversation := f.arrival("1", "", "").ConversationID
	for _, in := range f.pending(gateway.Lease{TenantID: f.tenant, ConversationID: conversation}) {
		got = append(got, in.Message.Text)
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("pending messages = %q, want %q", got, want)
	}
}

func TestInsertMessages_Deduplicated(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		a := f.arrival("1", "k1", "hello")
		if n := f.insertMessages(a, f.arrival("2", "k2", "hi")); n != 2 {
			t.Fatalf("InsertMessages() = %d, want 2", n)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 40 {
			wg.Go(func() {
				again := f.arrival("1", "k1", "hello")
				n, err := f.InsertMessages(context.WithoutCancel(t.Context()), []gateway.IncomingMessage{again}, nil)
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
			t.Fatalf("a redelivered message was stored %d times", total)
		}
		alt := f.arrival("1", "k3", "twin")
		alt.Message.AltKey = "twin"
		twin := f.arrival("1", "k4", "twin")
		twin.Message.AltKey = "twin"
		if n := f.insertMessages(alt) + f.insertMessages(twin); n != 1 {
			t.Fatalf("a message with the same AltKey was stored %d times, want 1", n)
		}
	})
}

func TestInsertMessages_CursorFenced(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		ep, err := f.SaveEndpoint(t.Context(), gateway.EndpointState{
			Status: gateway.EndpointActive,
			Endpoint: adapters.Endpoint{
				TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram, Mode: adapters.Polling, Address: "42",
				Credentials: adapters.Credentials{adapters.BotToken: "42:x"},
			},
		}, time.Time{}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		epoch, cursor, ok, err := f.AcquirePollLease(t.Context(), f.tenant, ep.ID, "one")
		if err != nil || !ok || cursor != "" {
			t.Fatalf("AcquirePollLease() = %v, %v", ok, err)
		}
		if _, _, ok, _ := f.AcquirePollLease(t.Context(), f.tenant, ep.ID, "two"); ok {
			t.Fatal("a second holder acquired the lease")
		}
		c := gateway.Cursor{EndpointID: ep.ID, TenantID: f.tenant, Holder: "one", Epoch: epoch, Value: "7"}
		if n, err := f.InsertMessages(t.Context(), []gateway.IncomingMessage{f.arrival("1", "k1", "a")}, &c); err != nil ||
			n != 1 {
			t.Fatalf("InsertMessages() = %d, %v, want 1", n, err)
		}
		if err := f.ReleasePollLease(t.Context(), ep.Endpoint, "one", epoch); err != nil {
			t.Fatal(err)
		}
		now, cursor, ok, err := f.AcquirePollLease(t.Context(), f.tenant, ep.ID, "two")
		if err != nil || !ok || now == epoch || cursor != "7" {
			t.Fatalf("AcquirePollLease() of the second holder: epoch %d after %d, cursor %q, %v", now, epoch, cursor, err)
		}
		if _, err := f.InsertMessages(t.Context(), []gateway.IncomingMessage{f.arrival("1", "k2", "b")},
			&c); !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("InsertMessages() by the old holder = %v, want ErrLeaseLost", err)
		}
	})
}

// lateArrival returns a message that was received age ago.
func lateArrival(ep gateway.EndpointState, key string, age time.Duration) gateway.IncomingMessage {
	return gateway.IncomingMessage{
		ID: newID(), TenantID: ep.TenantID, InstanceID: ep.InstanceID, Channel: ep.Channel, ReceivedAt: time.Now().Add(-age),
		ConversationID: gateway.ConversationID(ep.InstanceID, ep.Channel, "+14155550101"),
		Message: adapters.Message{
			Key: key, Kind: adapters.Text, Text: "hello",
			Sender: adapters.Sender{ID: "+14155550101"}, Chat: adapters.Chat{ID: "+14155550101"},
		},
	}
}

// A message from the spool gets the time at which it was received by the clock of the database, never a
// time in the future, and is stored once.
func TestInsertMessages_Late(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		ep := savePhoneEndpoint(t, s, gateway.EndpointActive)
		messages := []gateway.IncomingMessage{
			lateArrival(ep, "old", 90*time.Minute), lateArrival(ep, "new", 0),
			lateArrival(ep, "moment", time.Microsecond), lateArrival(ep, "future", -time.Hour),
		}
		ages := []time.Duration{90 * time.Minute, 0, 0, 0}
		messages[1].ReceivedAt = time.Time{}
		for i, want := range []int{4, 0} {
			n, err := s.InsertMessages(t.Context(), messages, nil)
			if err != nil || n != want {
				t.Fatalf("InsertMessages() call %d = %d, %v, want %d", i, n, err, want)
			}
		}
		rs, err := s.db.Query(t.Context(),
			`select key, -(`+s.dialect.SecondsUntil("received_at")+`) from messages order by seq`)
		type received struct {
			key string
			ago time.Duration
		}
		got, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (r received, err error) {
			return r,
				sc(&r.key, sqldb.Seconds(&r.ago))
		})
		must(t, err)
		for i, r := range got {
			if off := r.ago - ages[i]; r.key != messages[i].Message.Key || off < -2*time.Millisecond ||
				off > 20*time.Second {
				t.Errorf("age of %s = %s, want %s", r.key, r.ago, ages[i])
			}
		}
		missing, err := s.MissingKeys(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel,
			[]string{"a", "old", "b", "new"})
		if err != nil || !slices.Equal(missing, []string{"a", "b"}) {
			t.Fatalf("MissingKeys() = %q, %v, want a and b", missing, err)
		}
		for limit, want := range map[int]int{1: 1, 100: 4} {
			if n, err := s.CountUnprocessed(t.Context(), limit); err != nil || n != want {
				t.Fatalf("CountUnprocessed(%d) = %d, %v, want %d", limit, n, err, want)
			}
		}
		must(t, s.Probe(t.Context()))
	})
}
