package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
	"hydragate/gateway/ingest"
	"hydragate/identity"
)

var (
	_ endpoints.Store  = (*Store)(nil)
	_ ingest.PollStore = (*Store)(nil)
)

var timeZero time.Time

func endpoint(tenant, instance string) adapters.Endpoint {
	return adapters.Endpoint{
		TenantID: tenant, InstanceID: instance, Channel: adapters.SMS, Mode: adapters.Webhook, Address: "+61400111222",
		Settings:    map[string]string{adapters.NumberSID: "PN1"},
		Credentials: adapters.Credentials{adapters.AccountSID: "AC1", adapters.AuthToken: "token one"},
	}
}

func mustSaveEndpoint(t *testing.T, s *Store, state gateway.EndpointState, retryAt time.Time) gateway.EndpointState {
	t.Helper()
	if state.Status == "" {
		state.Status = gateway.EndpointActive
	}
	got, err := s.SaveEndpoint(t.Context(), state, retryAt, "key:k")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSaveEndpoint(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		if _, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); !errors.Is(err,
			gateway.ErrNoEndpoint) {
			t.Errorf("EndpointState() before saving = %v, want ErrNoEndpoint", err)
		}
		if endpointStates, err := s.EndpointStates(t.Context(), ep.TenantID, ep.InstanceID); err != nil ||
			len(endpointStates) != 0 {
			t.Errorf("EndpointStates() before saving = %d endpoints, %v", len(endpointStates), err)
		}
		saved := mustSaveEndpoint(t, s, gateway.EndpointState{
			Endpoint: ep, Status: gateway.EndpointError,
			ErrorMessage: "no answer",
		}, timeZero)
		ep.ID = saved.ID
		got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
		if err != nil || got.Status != gateway.EndpointError || got.ErrorMessage != "no answer" || got.CreatedAt.IsZero() ||
			!got.UpdatedAt.Equal(saved.UpdatedAt) {
			t.Errorf("EndpointState(): %v %q, %v", got.Status, got.ErrorMessage, err)
		}
		byWebhook, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
		if err != nil {
			t.Fatal(err)
		}
		for what, found := range map[string]adapters.Endpoint{
			"saved": saved.Endpoint, "read": got.Endpoint,
			"for a webhook": byWebhook,
		} {
			wantEndpoint(t, what, found, ep)
		}
		telegram := ep
		telegram.Channel, telegram.Credentials, telegram.Settings = adapters.Telegram, nil, nil
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: telegram}, timeZero)
		if endpointStates, err := s.EndpointStates(t.Context(), ep.TenantID, ep.InstanceID); err != nil ||
			len(endpointStates) != 2 ||
			endpointStates[0].Channel != adapters.SMS || endpointStates[1].Channel != adapters.Telegram {
			t.Errorf("EndpointStates() = %d endpoints, %v, want both", len(endpointStates), err)
		}
		es := auditLog(t, s, ep.TenantID)
		if e := es[1]; e.Kind != "channel.configured" || e.Actor != "key:k" || e.InstanceID != ep.InstanceID ||
			e.Detail["channel"] != "sms" || e.Detail["fields"] != "account_sid auth_token address mode" {
			t.Errorf("event = %+v", e)
		}
	})
}

func wantEndpoint(t *testing.T, what string, got, want adapters.Endpoint) {
	t.Helper()
	plain := func(ep adapters.Endpoint) string {
		creds := map[string]string(ep.Credentials)
		return fmt.Sprint(ep.ID, ep.TenantID, ep.InstanceID, ep.Channel, ep.Mode, ep.Address, ep.Settings, creds)
	}
	if plain(got) != plain(want) {
		t.Errorf("endpoint %s = %s, want %s", what, plain(got), plain(want))
	}
}

func TestSaveEndpoint_Twice(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		first := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		again := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		if again.ID != first.ID || !again.CreatedAt.Equal(first.CreatedAt) || again.UpdatedAt.Before(first.UpdatedAt) {
			t.Errorf("saved as %s at %v, then as %s at %v", first.ID, first.UpdatedAt, again.ID, again.UpdatedAt)
		}
		ep.ID = first.ID
		wantEndpoint(t, "saved again", again.Endpoint, ep)
		if es := auditLog(t, s, ep.TenantID); es[2].Detail["fields"] != "" {
			t.Errorf("fields changed by saving the same endpoint = %q", es[2].Detail["fields"])
		}
	})
}

func TestSaveEndpoint_Concurrent(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		ids := make([]string, 16)
		var wg sync.WaitGroup
		for n := range ids {
			wg.Go(func() {
				state, err := s.SaveEndpoint(t.Context(), gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointActive},
					timeZero, identity.System)
				if err != nil {
					t.Error(err)
				}
				ids[n] = state.ID
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("saved as %s and %s, want one endpoint", ids[0], id)
			}
		}
	})
}

func TestSaveEndpoint_ResetsPollCursor(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		ep.Mode = adapters.Polling
		state := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		mustExec(t, s, `update endpoints set poll_cursor = '77' where id = $1`, state.ID)
		cursor := func() string { return queryText(t, s, `select poll_cursor from endpoints where id = $1`, state.ID) }
		if mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero); cursor() != "77" {
			t.Errorf("cursor after saving again = %q, want 77", cursor())
		}
		ep.Address = "+61400111333"
		if mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero); cursor() != "" {
			t.Errorf("cursor of another bot = %q, want none", cursor())
		}
	})
}

func TestRemoveEndpoint(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		if err := s.RemoveEndpoint(t.Context(), newTenant(t, s), ep.InstanceID, ep.Channel, "key:k"); !errors.Is(err,
			gateway.ErrNoEndpoint) {
			t.Errorf("RemoveEndpoint() by another tenant = %v, want ErrNoEndpoint", err)
		}
		if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, "key:k"); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, "key:k"); !errors.Is(err,
			gateway.ErrNoEndpoint) {
			t.Errorf("second RemoveEndpoint() = %v, want ErrNoEndpoint", err)
		}
		if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Errorf("WebhookEndpoint() after removal = %v, want ErrNoEndpoint", err)
		}
		es := auditLog(t, s, ep.TenantID)
		if e := es[len(es)-1]; e.Kind != "channel.removed" || e.Detail["channel"] != "sms" {
			t.Errorf("event = %+v", e)
		}
	})
}

func TestSetEndpointStatus(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		read := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointError}, timeZero)
		setStatus := func(state gateway.EndpointState, want bool) {
			t.Helper()
			if stored, err := s.SetEndpointStatus(t.Context(), state, timeZero); err != nil || stored != want {
				t.Errorf("SetEndpointStatus() = %v, %v, want %v", stored, err, want)
			}
		}
		read.Status, read.ErrorMessage, read.Address, read.Settings = gateway.EndpointActive, "", "+61400111444",
			map[string]string{"a": "b"}
		setStatus(read, true)
		got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
		if err != nil || got.Status != gateway.EndpointActive || got.Address != read.Address || got.Settings["a"] != "b" ||
			!got.UpdatedAt.Equal(read.UpdatedAt) {
			t.Errorf("EndpointState() = %v %v %v, %v", got.Status, got.Address, got.Settings, err)
		}
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		read.Status = gateway.EndpointError
		setStatus(read, false)
		if got, err = s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); err != nil ||
			got.Status != gateway.EndpointActive {
			t.Errorf("outdated status was stored: %v, %v", got.Status, err)
		}
		due, err := s.EndpointsToRetry(t.Context(), 100)
		if err != nil || len(due) != 1 || due[0].ID != read.ID {
			t.Errorf("EndpointsToRetry() = %d endpoints, %v, want the outdated one", len(due), err)
		}
		if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, identity.System); err != nil {
			t.Fatal(err)
		}
		setStatus(read, false)
	})
}

func TestTouchEndpoint(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		state := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, use := range []struct{ at, want time.Time }{
			{at, at},
			{at.Add(5 * time.Second), at},
			{at.Add(11 * time.Second), at.Add(11 * time.Second)},
			{at, at.Add(11 * time.Second)},
		} {
			if err := s.TouchEndpoint(t.Context(), state.ID, use.at); err != nil {
				t.Fatal(err)
			}
			if got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); err != nil ||
				!got.LastEventAt.Equal(use.want) {
				t.Errorf("LastEventAt after an event at %v = %v, %v, want %v", use.at, got.LastEventAt, err, use.want)
			}
		}
	})
}

func TestWebhookEndpoint_UnknownInstance(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		state := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		for _, instance := range []string{
			"", "x", unknownID, strings.ToUpper(ep.InstanceID), "{" + ep.InstanceID + "}",
			"urn:uuid:" + ep.InstanceID, ep.InstanceID + "' or '1'='1",
		} {
			if _, err := s.WebhookEndpoint(t.Context(), instance, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
				t.Errorf("WebhookEndpoint(%q) = %v, want ErrNoEndpoint", instance, err)
			}
		}
		if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, adapters.Slack); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Errorf("WebhookEndpoint() on another channel = %v, want ErrNoEndpoint", err)
		}
		mustExec(t, s, `update endpoints set status = 'disabled' where id = $1`, state.ID)
		if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Errorf("WebhookEndpoint() of a disabled endpoint = %v, want ErrNoEndpoint", err)
		}
	})
}

func TestEndpointsToRetry_SingleHolder(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		for n := range 20 {
			retryAt := s.now().Add(-time.Second)
			if n%4 == 0 {
				retryAt = s.now().Add(time.Hour)
			}
			mustSaveEndpoint(t, s, gateway.EndpointState{
				Endpoint: endpoint(tenant, newInstance(t, s, tenant).ID),
				Status:   gateway.EndpointError,
			}, retryAt)
		}
		var mu sync.Mutex
		leased := map[string]int{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					endpointStates, err := s.EndpointsToRetry(t.Context(), 3)
					if err != nil {
						t.Error(err)
					}
					if len(endpointStates) == 0 {
						return
					}
					mu.Lock()
					for _, state := range endpointStates {
						leased[state.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(leased) != 15 {
			t.Errorf("%d endpoints leased, want the 15 that were due", len(leased))
		}
		for id, n := range leased {
			if n != 1 {
				t.Errorf("endpoint %s was leased %d times, want once", id, n)
			}
		}
	})
}

func TestPollingEndpoints(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		var want []string
		for n, c := range []struct {
			mode   adapters.Mode
			status gateway.EndpointStatus
		}{
			{adapters.Polling, gateway.EndpointActive},
			{adapters.Webhook, gateway.EndpointActive},
			{adapters.Polling, gateway.EndpointError},
			{adapters.Socket, gateway.EndpointActive},
			{adapters.Polling, gateway.EndpointActive},
			{adapters.Socket, gateway.EndpointError},
			{adapters.Polling, gateway.EndpointDisabled},
		} {
			tenant := newTenant(t, s)
			ep := endpoint(tenant, newInstance(t, s, tenant).ID)
			ep.Mode = c.mode
			state := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep, Status: c.status}, timeZero)
			switch n {
			case 5:
				mustExec(t, s, `update endpoints set poll_fault = 'conflict' where id = $1`, state.ID)
				want = append(want, state.ID)
			case 0, 3:
				want = append(want, state.ID)
			case 4:
				mustExec(t, s, `update endpoints set credentials = 'v1.gone.x' where id = $1`, state.ID)
			}
		}
		endpointStates, err := s.PollingEndpoints(t.Context())
		var got []string
		for _, ep := range endpointStates {
			got = append(got, ep.ID)
		}
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("PollingEndpoints() = %v, %v, want %v", got, err, want)
		}
	})
}
