package store

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
	"hydragate/gateway/ingest"
	"hydragate/identity"
	"hydragate/store/keyring"
)

// TestEndpoints_MovedCredentialsRejected swaps what is sealed by SQL, between rows, columns and
// tenants: whoever asks for it gets an error and nothing else.
func TestEndpoints_MovedCredentialsRejected(t *testing.T) {
	forEachEngineWithKey(t, func(t *testing.T, h fixture, _ string) {
		mine := mustSaveEndpoint(t, h.Store, gateway.EndpointState{Endpoint: endpoint(tenant, h.instance)}, timeZero)
		theirs := endpoint(newTenant(t, h.Store), "")
		theirs.InstanceID = newInstance(t, h.Store, theirs.TenantID).ID
		other := mustSaveEndpoint(t, h.Store, gateway.EndpointState{Endpoint: theirs}, timeZero)
		sibling := endpoint(tenant, newInstance(t, h.Store, tenant).ID)
		second := mustSaveEndpoint(t, h.Store, gateway.EndpointState{Endpoint: sibling}, timeZero)
		sealed := func(id string) string {
			return queryText(t, h.Store, `select credentials from endpoints where id = $1`, id)
		}
		own := sealed(mine.ID)
		for name, value := range map[string]string{
			"AnotherRow": sealed(second.ID), "AnotherTenant": sealed(other.ID), "Changed": own[:len(own)-3] + "AAA",
			"Nothing":       "",
			"AnotherColumn": queryText(t, h.Store, `select webhook_secret from instances where id = $1`, h.instance),
		} {
			mustExec(t, h.Store, `update endpoints set credentials = $1 where id = $2`, value, mine.ID)
			ep, err := h.WebhookEndpoint(t.Context(), h.instance, adapters.SMS)
			if !errors.Is(err, keyring.ErrDecrypt) || ep.Credentials != nil {
				t.Errorf("%s: %v", name, err)
			}
			if seat, err := h.EndpointState(t.Context(), tenant, h.instance, adapters.SMS); err != nil ||
				seat.Status != gateway.EndpointError || seat.ErrorMessage != credentialsUnreadable || seat.Err == nil {
				t.Errorf("%s: staff see %v %q, %v", name, seat.Status, seat.ErrorMessage, err)
			}
		}
		mustExec(t, h.Store, `update instances set webhook_secret = $1 where id = $2`, own, h.instance)
		if secrets, err := h.SigningSecrets(t.Context(), tenant, h.instance); !errors.Is(err, keyring.ErrDecrypt) ||
			secrets != nil {
			t.Errorf("credentials as a signing secret: %v", err)
		}
		mustExec(t, h.Store, `update endpoints set credentials = $1 where id = $2`, own, mine.ID)
		if _, err := h.WebhookEndpoint(t.Context(), h.instance, adapters.SMS); err != nil {
			t.Errorf("put back: %v", err)
		}
	})
}

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

func mustSaveEndpoint(t *testing.T, s *Store, seat gateway.EndpointState, retryAt time.Time) gateway.EndpointState {
	t.Helper()
	if seat.Status == "" {
		seat.Status = gateway.EndpointActive
	}
	got, err := s.SaveEndpoint(t.Context(), seat, retryAt, "key:k")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEndpoints(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		for name, test := range map[string]func(*testing.T, *Store, adapters.Endpoint){
			"SaveAndFind": testSaveAndRead, "SaveTwiceIsOnce": testSaveTwice, "ManySaveAtOnce": testConcurrentSaves,
			"CredentialsAreSealed":     testCredentialsEncrypted,
			"OldKeysStayGoodForAWhile": testPreviousCredentials, "OldKeysOfAnotherAccountDoNot": testOtherAccountCredentials,
			"NewBotPollsAnew": testPollCursorReset, "Remove": testRemoveEndpoint,
			"MarkOnlyWhatWasSeen": testSetEndpointStatus, "Touch": testTouchEndpoint, "HookOfNobody": testUnknownInstance,
		} {
			t.Run(name, func(t *testing.T) {
				tenant := newTenant(t, s)
				test(t, s, endpoint(tenant, newInstance(t, s, tenant).ID))
			})
		}
	})
}

func testSaveAndRead(t *testing.T, s *Store, ep adapters.Endpoint) {
	if _, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); !errors.Is(err,
		gateway.ErrNoEndpoint) {
		t.Errorf("before: %v; want ErrNoEndpoint", err)
	}
	if seats, err := s.EndpointStates(t.Context(), ep.TenantID, ep.InstanceID); err != nil || len(seats) != 0 {
		t.Errorf("before: %d seats, %v", len(seats), err)
	}
	kept := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointError,
		ErrorMessage: "no answer"}, timeZero)
	ep.ID = kept.ID
	got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
	if err != nil || got.Status != gateway.EndpointError || got.ErrorMessage != "no answer" || got.CreatedAt.IsZero() ||
		!got.UpdatedAt.Equal(kept.UpdatedAt) {
		t.Errorf("found: %v %q %v", got.Status, got.ErrorMessage, err)
	}
	hooked, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
	if err != nil {
		t.Fatal(err)
	}
	for what, found := range map[string]adapters.Endpoint{"saved": kept.Endpoint, "found": got.Endpoint,
		"for a hook": hooked} {
		wantEndpoint(t, what, found, ep)
	}
	telegram := ep
	telegram.Channel, telegram.Credentials, telegram.Settings = adapters.Telegram, nil, nil
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: telegram}, timeZero)
	if seats, err := s.EndpointStates(t.Context(), ep.TenantID, ep.InstanceID); err != nil || len(seats) != 2 ||
		seats[0].Channel != adapters.SMS || seats[1].Channel != adapters.Telegram {
		t.Errorf("%d seats, %v; want both", len(seats), err)
	}
	es := auditLog(t, s, ep.TenantID)
	if e := es[1]; e.Kind != "channel.configured" || e.Actor != "key:k" || e.InstanceID != ep.InstanceID ||
		e.Detail["channel"] != "sms" || e.Detail["fields"] != "account_sid auth_token address mode" {
		t.Errorf("event: %+v", e)
	}
}

func wantEndpoint(t *testing.T, what string, got, want adapters.Endpoint) {
	t.Helper()
	plain := func(ep adapters.Endpoint) string {
		creds := map[string]string(ep.Credentials)
		return fmt.Sprint(ep.ID, ep.TenantID, ep.InstanceID, ep.Channel, ep.Mode, ep.Address, ep.Settings, creds)
	}
	if plain(got) != plain(want) {
		t.Errorf("%s: %s; want %s", what, plain(got), plain(want))
	}
}

func testSaveTwice(t *testing.T, s *Store, ep adapters.Endpoint) {
	first := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	again := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	if again.ID != first.ID || !again.CreatedAt.Equal(first.CreatedAt) || again.UpdatedAt.Before(first.UpdatedAt) {
		t.Errorf("saved %s at %v, then %s at %v", first.ID, first.UpdatedAt, again.ID, again.UpdatedAt)
	}
	ep.ID = first.ID
	wantEndpoint(t, "again", again.Endpoint, ep)
	if es := auditLog(t, s, ep.TenantID); es[2].Detail["fields"] != "" {
		t.Errorf("the same again changed %q", es[2].Detail["fields"])
	}
}

func testConcurrentSaves(t *testing.T, s *Store, ep adapters.Endpoint) {
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for n := range ids {
		wg.Go(func() {
			seat, err := s.SaveEndpoint(t.Context(), gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointActive},
				timeZero, identity.System)
			if err != nil {
				t.Error(err)
			}
			ids[n] = seat.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("rows %s and %s; want one", ids[0], id)
		}
	}
}

func testCredentialsEncrypted(t *testing.T, s *Store, ep adapters.Endpoint) {
	seat := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	kept := queryText(t, s, `select credentials from endpoints where id = $1`, seat.ID)
	if strings.Contains(kept, "token") || strings.Contains(kept, "AC1") || strings.Contains(kept, "redacted") {
		t.Error("the credentials are kept in the clear")
	}
	other := newInstance(t, s, ep.TenantID)
	ep.InstanceID = other.ID
	moved := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	mustExec(t, s, `update endpoints set credentials = $2 where id = $1`, moved.ID, kept)
	got, err := s.EndpointState(t.Context(), ep.TenantID, other.ID, ep.Channel)
	if err != nil || got.Status != gateway.EndpointError || len(got.Credentials) != 0 || got.ErrorMessage == "" {
		t.Errorf("credentials of another row: %v, %d of them, %v; want a faulty seat without any", got.Status,
			len(got.Credentials), err)
	}
}

func testPreviousCredentials(t *testing.T, s *Store, ep adapters.Endpoint) {
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	rotated := ep
	rotated.Credentials = adapters.Credentials{adapters.AccountSID: "AC1", adapters.AuthToken: "token two"}
	for range 2 {
		if got := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: rotated},
			timeZero).Current(adapters.AuthToken); fmt.Sprint(got) != "[token two token one]" {
			t.Errorf("good now: %v", got)
		}
	}
	hooked, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
	if err != nil || len(hooked.Current(adapters.AuthToken)) != 2 {
		t.Errorf("for a hook: %d keys, %v; want both", len(hooked.Current(adapters.AuthToken)), err)
	}
	good := func() string {
		t.Helper()
		hooked, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(hooked.Current(adapters.AuthToken))
	}
	left := func() string {
		return queryText(t, s,
			`select coalesce(cast(round(`+s.dialect.SecondsUntil("old_until")+`) as text), 'nobody knows') from endpoints where instance_id = $1`, ep.InstanceID)
	}
	// People tell Twilio: it is not for Twilio's API to answer before the time runs.
	if !strings.HasPrefix(left(), "86400") {
		t.Errorf("before the provider answered the overlap ends in %s s", left())
	}
	seat, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetEndpointStatus(t.Context(), seat, s.now().Add(time.Minute)); err != nil ||
		!strings.HasPrefix(left(), "86") {
		t.Errorf("while the provider does not answer it ends in %s s, %v", left(), err)
	}
	if _, err := s.SetEndpointStatus(t.Context(), seat, timeZero); err != nil || !strings.HasPrefix(left(), "86") ||
		good() != "[token two token one]" {
		t.Errorf("told: %s are good for %s s, %v", good(), left(), err)
	}
	// The same again begins nothing anew.
	mustExec(t, s, `update endpoints set old_until = `+s.dialect.NowPlus(60)+` where instance_id = $1`, ep.InstanceID)
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: rotated}, timeZero)
	if !strings.HasPrefix(left(), "60") && !strings.HasPrefix(left(), "59") {
		t.Errorf("the same again is good for %s s", left())
	}
	mustExec(t, s, `update endpoints set old_until = `+s.dialect.NowPlus(-1)+` where instance_id = $1`, ep.InstanceID)
	if good() != "[token two]" {
		t.Errorf("after the overlap %s are good", good())
	}
	// What leaked is ended at once, and what was replaced before with it.
	third := ep
	third.Credentials = adapters.Credentials{adapters.AccountSID: "AC1", adapters.AuthToken: "token three"}
	var none time.Duration
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: third, GracePeriod: &none}, timeZero)
	if good() != "[token three]" {
		t.Errorf("without an overlap %s are good", good())
	}
}

func testOtherAccountCredentials(t *testing.T, s *Store, ep adapters.Endpoint) {
	for name, change := range map[string]func(*adapters.Endpoint){
		"account": func(ep *adapters.Endpoint) { ep.Credentials[adapters.AccountSID] = "AC2" },
		"number":  func(ep *adapters.Endpoint) { ep.Address = "+61400111333" },
	} {
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		other := ep
		other.Credentials = maps.Clone(ep.Credentials)
		other.Credentials[adapters.AuthToken] = "token two"
		change(&other)
		if got := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: other},
			timeZero).Current(adapters.AuthToken); fmt.Sprint(got) != "[token two]" {
			t.Errorf("another %s: %v is good", name, got)
		}
	}
}

func testPollCursorReset(t *testing.T, s *Store, ep adapters.Endpoint) {
	ep.Mode = adapters.Polling
	seat := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	mustExec(t, s, `update endpoints set poll_cursor = '77' where id = $1`, seat.ID)
	cursor := func() string { return queryText(t, s, `select poll_cursor from endpoints where id = $1`, seat.ID) }
	if mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero); cursor() != "77" {
		t.Errorf("the same again polls from %q", cursor())
	}
	ep.Address = "+61400111333"
	if mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero); cursor() != "" {
		t.Errorf("another bot polls from %q", cursor())
	}
}

func testRemoveEndpoint(t *testing.T, s *Store, ep adapters.Endpoint) {
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	if err := s.RemoveEndpoint(t.Context(), newTenant(t, s), ep.InstanceID, ep.Channel, "key:k"); !errors.Is(err,
		gateway.ErrNoEndpoint) {
		t.Errorf("by another tenant: %v", err)
	}
	if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, "key:k"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, "key:k"); !errors.Is(err,
		gateway.ErrNoEndpoint) {
		t.Errorf("again: %v", err)
	}
	if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("hook: %v", err)
	}
	es := auditLog(t, s, ep.TenantID)
	if e := es[len(es)-1]; e.Kind != "channel.removed" || e.Detail["channel"] != "sms" {
		t.Errorf("event: %+v", e)
	}
}

func testSetEndpointStatus(t *testing.T, s *Store, ep adapters.Endpoint) {
	seen := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointError}, timeZero)
	mark := func(seat gateway.EndpointState, want bool) {
		t.Helper()
		if kept, err := s.SetEndpointStatus(t.Context(), seat, timeZero); err != nil || kept != want {
			t.Errorf("kept %v, %v; want %v", kept, err, want)
		}
	}
	seen.Status, seen.ErrorMessage, seen.Address, seen.Settings = gateway.EndpointActive, "", "+61400111444",
		map[string]string{"a": "b"}
	mark(seen, true)
	got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
	if err != nil || got.Status != gateway.EndpointActive || got.Address != seen.Address || got.Settings["a"] != "b" ||
		!got.UpdatedAt.Equal(seen.UpdatedAt) {
		t.Errorf("marked: %v %v %v %v", got.Status, got.Address, got.Settings, err)
	}
	mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	seen.Status = gateway.EndpointError
	mark(seen, false)
	if got, err = s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); err != nil ||
		got.Status != gateway.EndpointActive {
		t.Errorf("the later word lost: %v, %v", got.Status, err)
	}
	due, err := s.EndpointsToRetry(t.Context(), 100)
	if err != nil || len(due) != 1 || due[0].ID != seen.ID {
		t.Errorf("%d seats due, %v; want this one", len(due), err)
	}
	if err := s.RemoveEndpoint(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel, identity.System); err != nil {
		t.Fatal(err)
	}
	mark(seen, false)
}

func testTouchEndpoint(t *testing.T, s *Store, ep adapters.Endpoint) {
	seat := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, use := range []struct{ at, want time.Time }{{at, at}, {at.Add(5 * time.Second), at},
		{at.Add(11 * time.Second), at.Add(11 * time.Second)}, {at, at.Add(11 * time.Second)}} {
		if err := s.TouchEndpoint(t.Context(), seat.ID, use.at); err != nil {
			t.Fatal(err)
		}
		if got, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel); err != nil ||
			!got.LastEventAt.Equal(use.want) {
			t.Errorf("heard at %v: %v, %v; want %v", use.at, got.LastEventAt, err, use.want)
		}
	}
}

func testUnknownInstance(t *testing.T, s *Store, ep adapters.Endpoint) {
	seat := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
	for _, instance := range []string{"", "x", unknownID, strings.ToUpper(ep.InstanceID), "{" + ep.InstanceID + "}",
		"urn:uuid:" + ep.InstanceID, ep.InstanceID + "' or '1'='1"} {
		if _, err := s.WebhookEndpoint(t.Context(), instance, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
			t.Errorf("instance %q: %v; want ErrNoEndpoint", instance, err)
		}
	}
	if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, adapters.Slack); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("another channel: %v", err)
	}
	mustExec(t, s, `update endpoints set status = 'disabled' where id = $1`, seat.ID)
	if _, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("disabled: %v; want ErrNoEndpoint", err)
	}
}

func TestEndpointsToRetry_SingleHolder(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		tenant := newTenant(t, s)
		for n := range 20 {
			retryAt := s.now().Add(-time.Second)
			if n%4 == 0 {
				retryAt = s.now().Add(time.Hour)
			}
			mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: endpoint(tenant, newInstance(t, s, tenant).ID),
				Status: gateway.EndpointError}, retryAt)
		}
		var mu sync.Mutex
		taken := map[string]int{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					seats, err := s.EndpointsToRetry(t.Context(), 3)
					if err != nil {
						t.Error(err)
					}
					if len(seats) == 0 {
						return
					}
					mu.Lock()
					for _, seat := range seats {
						taken[seat.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(taken) != 15 {
			t.Errorf("%d taken; want the 15 that were due", len(taken))
		}
		for id, n := range taken {
			if n != 1 {
				t.Errorf("%s was taken %d times", id, n)
			}
		}
	})
}

func TestPollingEndpoints(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		var want []string
		for n, c := range []struct {
			mode   adapters.Mode
			status gateway.EndpointStatus
		}{{adapters.Polling, gateway.EndpointActive}, {adapters.Webhook, gateway.EndpointActive},
			{adapters.Polling, gateway.EndpointError}, {adapters.Socket, gateway.EndpointActive},
			{adapters.Polling, gateway.EndpointActive}, {adapters.Socket, gateway.EndpointError}} {
			tenant := newTenant(t, s)
			ep := endpoint(tenant, newInstance(t, s, tenant).ID)
			ep.Mode = c.mode
			seat := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep, Status: c.status}, timeZero)
			switch n {
			case 0, 3:
				want = append(want, seat.ID)
			case 4:
				mustExec(t, s, `update endpoints set credentials = 'v1.gone.x' where id = $1`, seat.ID)
			}
		}
		seats, err := s.PollingEndpoints(t.Context())
		if err != nil || len(seats) != 2 || seats[0].ID != want[0] || seats[1].ID != want[1] {
			t.Errorf("%d seats, %v; want %v", len(seats), err, want)
		}
	})
}
