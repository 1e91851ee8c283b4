package store

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/ingest"
	"hydragate/identity"
)

var _ ingest.BackfillStore = (*Store)(nil)

var phoneChannels = []adapters.Channel{adapters.SMS, adapters.WhatsApp}

// savePhoneEndpoint creates an instance with an SMS endpoint.
func savePhoneEndpoint(t *testing.T, s *Store, status gateway.EndpointStatus) gateway.EndpointState {
	t.Helper()
	i, err := s.CreateInstance(t.Context(), gateway.Instance{
		TenantID: identity.DefaultTenant, Name: "acme",
		UnknownSenders: gateway.ForwardUnknown,
	},
		gateway.InstanceSecrets{
			AgentSecretKey: "ask_" + uuid.NewString(),
			WebhookSecret:  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := s.SaveEndpoint(t.Context(), gateway.EndpointState{Status: status, Endpoint: adapters.Endpoint{
		TenantID: identity.DefaultTenant, InstanceID: i.ID, Channel: adapters.SMS, Mode: adapters.Webhook,
		Address: "+14155550100",
	}}, time.Time{}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

func leaseBackfills(t *testing.T, s *Store) []gateway.BackfillTask {
	t.Helper()
	ts, err := s.LeaseBackfills(t.Context(), phoneChannels, 10)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestLeaseBackfills_SingleHolder(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		savePhoneEndpoint(t, s, gateway.EndpointError)
		ep := savePhoneEndpoint(t, s, gateway.EndpointActive)
		first := leaseBackfills(t, s)
		if len(first) != 1 || first[0].State.ID != ep.ID || !first[0].FirstRun || !first[0].Since.Equal(ep.CreatedAt) ||
			first[0].StartedAt.Before(ep.CreatedAt.Add(-time.Minute)) {
			t.Fatalf("tasks = %+v, want one for the active endpoint", first)
		}
		if again := leaseBackfills(t, s); len(again) > 0 {
			t.Fatalf("leased twice: %+v", again)
		}
		must(t, s.CompleteBackfill(t.Context(), ep.TenantID, ep.ID, first[0].StartedAt, time.Hour))
		if early := leaseBackfills(t, s); len(early) > 0 {
			t.Fatalf("leased before it is due: %+v", early)
		}
		must(t, s.ScheduleBackfills(t.Context(), phoneChannels))
		next := leaseBackfills(t, s)
		if len(next) != 1 || next[0].FirstRun ||
			!next[0].Since.Equal(first[0].StartedAt.Truncate(s.dialect.ClockResolution)) {
			t.Fatalf("tasks = %+v, want one since %s", next, first[0].StartedAt)
		}
		must(t, s.FailBackfill(t.Context(), ep.TenantID, ep.ID, 0))
		if failed := leaseBackfills(t, s); len(failed) != 1 || failed[0].Failures != 1 ||
			!failed[0].Since.Equal(next[0].Since) {
			t.Fatalf("tasks = %+v, want one with one failure", failed)
		}
	})
}

// The back-fill of a new number starts when the number was set up.
func TestSaveEndpoint_NewNumberRestartsBackfill(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		ep := savePhoneEndpoint(t, s, gateway.EndpointActive)
		upTo := time.Now().Add(-20 * time.Hour).UTC()
		must(t, s.CompleteBackfill(t.Context(), ep.TenantID, ep.ID, upTo, 0))
		_, err := s.SaveEndpoint(t.Context(), ep, time.Time{}, identity.System)
		must(t, err)
		if same := leaseBackfills(t, s); len(same) != 1 || time.Since(same[0].Since) < 19*time.Hour {
			t.Fatalf("tasks = %+v, want one since %s", same, upTo)
		}
		ep.Address = "+14155550199"
		_, err = s.SaveEndpoint(t.Context(), ep, time.Time{}, identity.System)
		must(t, err)
		if other := leaseBackfills(t, s); len(other) != 1 || time.Since(other[0].Since) > time.Hour {
			t.Fatalf("tasks = %+v, want one since now", other)
		}
	})
}

// Messages that arrive late from an erased account are recognized by its pseudonym.
func TestErasedSince(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		ep := savePhoneEndpoint(t, s, gateway.EndpointActive)
		before := time.Now().Add(-time.Minute)
		c, err := s.CreateCustomer(t.Context(), identity.Customer{TenantID: ep.TenantID, FirstName: "Steve"},
			identity.System)
		must(t, err)
		_, err = s.Link(t.Context(), identity.Identity{
			TenantID: ep.TenantID, CustomerID: c.ID,
			InstanceID: ep.InstanceID, Channel: "sms", ExternalID: "+14155550101",
		}, identity.System)
		must(t, err)
		erasedAt := func(id string, at time.Time) bool {
			erased, err := s.ErasedSince(t.Context(), ep.TenantID, before)
			must(t, err)
			return erased(adapters.SMS, id, at)
		}
		if erasedAt("+14155550101", before) {
			t.Fatal("reported as erased before the erasure")
		}
		_, err = s.EraseCustomer(t.Context(), ep.TenantID, c.ID, identity.System)
		must(t, err)
		for _, c := range []struct {
			id   string
			at   time.Time
			want bool
		}{
			{"+14155550101", before, true},
			{"+14155550101", time.Now().Add(time.Minute), false},
			{"+14155550102", before, false},
		} {
			if got := erasedAt(c.id, c.at); got != c.want {
				t.Errorf("erased(%s, %s) = %v, want %v", c.id, c.at, got, c.want)
			}
		}
	})
}
