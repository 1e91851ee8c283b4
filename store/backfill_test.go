package store

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

var _ gateway.BackfillStore = (*Store)(nil)

var phones = []adapters.Channel{adapters.SMS, adapters.WhatsApp}

// phoneSeat makes an instance with a seat on SMS.
func phoneSeat(t *testing.T, s *Store, status gateway.SeatStatus) gateway.Seat {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{TenantID: identity.DefaultTenant, Name: "acme", UnknownSenders: gateway.Forward},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + uuid.NewString(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	seat, err := s.SaveSeat(t.Context(), gateway.Seat{Status: status, Endpoint: adapters.Endpoint{
		TenantID: identity.DefaultTenant, InstanceID: i.ID, Channel: adapters.SMS, Mode: adapters.Webhook, Address: "+14155550100",
	}}, time.Time{}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	return seat
}

func turns(t *testing.T, s *Store) []gateway.BackfillTurn {
	t.Helper()
	ts, err := s.TakeBackfills(t.Context(), phones, 10)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBackfillsAreTakenByOne(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		phoneSeat(t, s, gateway.Faulty)
		seat := phoneSeat(t, s, gateway.Active)
		first := turns(t, s)
		if len(first) != 1 || first[0].Seat.ID != seat.ID || !first[0].First || !first[0].Since.Equal(seat.CreatedAt) || first[0].At.Before(seat.CreatedAt.Add(-time.Minute)) {
			t.Fatalf("%+v, want the one that is active", first)
		}
		if again := turns(t, s); len(again) > 0 {
			t.Fatalf("taken twice: %+v", again)
		}
		must(t, s.DoneBackfill(t.Context(), seat.TenantID, seat.ID, first[0].At, time.Hour))
		if early := turns(t, s); len(early) > 0 {
			t.Fatalf("due before its time: %+v", early)
		}
		must(t, s.HurryBackfills(t.Context(), phones))
		next := turns(t, s)
		if len(next) != 1 || next[0].First || !next[0].Since.Equal(first[0].At.Truncate(s.d.tick)) {
			t.Fatalf("%+v, want it since %s", next, first[0].At)
		}
		must(t, s.FailBackfill(t.Context(), seat.TenantID, seat.ID, 0))
		if failed := turns(t, s); len(failed) != 1 || failed[0].Failures != 1 || !failed[0].Since.Equal(next[0].Since) {
			t.Fatalf("%+v, want one failure", failed)
		}
	})
}

// Another number's messages are its own from when it was set up.
func TestBackfillOfAnotherNumberBeginsAnew(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		seat := phoneSeat(t, s, gateway.Active)
		long := time.Now().Add(-20 * time.Hour).UTC()
		must(t, s.DoneBackfill(t.Context(), seat.TenantID, seat.ID, long, 0))
		_, err := s.SaveSeat(t.Context(), seat, time.Time{}, identity.System)
		must(t, err)
		if same := turns(t, s); len(same) != 1 || time.Since(same[0].Since) < 19*time.Hour {
			t.Fatalf("%+v, want it since %s", same, long)
		}
		seat.Address = "+14155550199"
		_, err = s.SaveSeat(t.Context(), seat, time.Time{}, identity.System)
		must(t, err)
		if other := turns(t, s); len(other) != 1 || time.Since(other[0].Since) > time.Hour {
			t.Fatalf("%+v, want it since now", other)
		}
	})
}

// late makes an arrival that was received so long ago.
func late(seat gateway.Seat, key string, age time.Duration) gateway.Arrival {
	return gateway.Arrival{
		ID: newID(), TenantID: seat.TenantID, InstanceID: seat.InstanceID, Channel: seat.Channel, Age: age,
		ConversationID: gateway.ConversationID(seat.InstanceID, seat.Channel, "+14155550101"),
		Message:        adapters.Message{Key: key, Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: "+14155550101"}, Place: adapters.Place{ID: "+14155550101"}},
	}
}

// What comes late was received by the database's clock less its age, never later than
// now, and stored once.
func TestTakeLate(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		seat := phoneSeat(t, s, gateway.Active)
		as := []gateway.Arrival{late(seat, "old", 90*time.Minute), late(seat, "new", 0), late(seat, "moment", time.Microsecond), late(seat, "future", -time.Hour)}
		for i, want := range []int{4, 0} {
			n, err := s.Take(t.Context(), as, nil)
			if err != nil || n != want {
				t.Fatalf("time %d: stored %d, want %d: %v", i, n, want, err)
			}
		}
		rs, err := s.db.Query(t.Context(), `select key, -(`+s.d.until("received_at")+`) from messages order by seq`)
		type received struct {
			key string
			ago time.Duration
		}
		got, err := all(rs, err, func(sc scan) (r received, err error) { return r, sc(&r.key, age(&r.ago)) })
		must(t, err)
		for i, r := range got {
			if off := r.ago - max(0, as[i].Age); r.key != as[i].Message.Key || off < -2*time.Millisecond || off > 20*time.Second {
				t.Errorf("%s was received %s ago, want %s", r.key, r.ago, as[i].Age)
			}
		}
		missing, err := s.MissingKeys(t.Context(), seat.TenantID, seat.InstanceID, seat.Channel, []string{"a", "old", "b", "new"})
		if err != nil || !slices.Equal(missing, []string{"a", "b"}) {
			t.Fatalf("missing %q %v", missing, err)
		}
		for most, want := range map[int]int{1: 1, 100: 4} {
			if n, err := s.Unworked(t.Context(), most); err != nil || n != want {
				t.Fatalf("%d wait, want %d: %v", n, want, err)
			}
		}
		must(t, s.Reach(t.Context()))
	})
}

// Who was erased stays erased, whatever comes late: by the pseudonym, nobody else.
func TestErasedSince(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		seat := phoneSeat(t, s, gateway.Active)
		before := time.Now().Add(-time.Minute)
		c, err := s.CreateCustomer(t.Context(), identity.Customer{TenantID: seat.TenantID, FirstName: "Steve"}, identity.System)
		must(t, err)
		_, err = s.Link(t.Context(), identity.Identity{TenantID: seat.TenantID, CustomerID: c.ID, InstanceID: seat.InstanceID, Channel: "sms", ExternalID: "+14155550101"}, identity.System)
		must(t, err)
		ask := func(id string, at time.Time) bool {
			erased, err := s.ErasedSince(t.Context(), seat.TenantID, before)
			must(t, err)
			return erased(adapters.SMS, id, at)
		}
		if ask("+14155550101", before) {
			t.Fatal("erased before anybody erased")
		}
		_, err = s.EraseCustomer(t.Context(), seat.TenantID, c.ID, identity.System)
		must(t, err)
		for _, c := range []struct {
			id   string
			at   time.Time
			want bool
		}{{"+14155550101", before, true}, {"+14155550101", time.Now().Add(time.Minute), false}, {"+14155550102", before, false}} {
			if got := ask(c.id, c.at); got != c.want {
				t.Errorf("%s at %s: erased %v", c.id, c.at, got)
			}
		}
	})
}
