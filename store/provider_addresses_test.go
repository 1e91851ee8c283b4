package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// botEndpoint returns an active polling endpoint of a bot.
func botEndpoint(tenant, instance, bot string) gateway.EndpointState {
	return gateway.EndpointState{Status: gateway.EndpointActive, Checked: true, Endpoint: adapters.Endpoint{
		TenantID: tenant, InstanceID: instance, Channel: adapters.Telegram, Mode: adapters.Polling, Address: bot,
		Credentials: adapters.Credentials{adapters.BotToken: bot + ":x"},
	}}
}

// numberEndpoint returns an active endpoint of a number of an account.
func numberEndpoint(tenant, instance string, channel adapters.Channel, number, account string) gateway.EndpointState {
	ep := endpoint(tenant, instance)
	ep.Channel, ep.Address, ep.Credentials = channel, number, adapters.Credentials{adapters.AccountSID: account}
	return gateway.EndpointState{Status: gateway.EndpointActive, Checked: true, Endpoint: ep}
}

// appEndpoint returns an active endpoint of an app in a workspace.
func appEndpoint(tenant, instance, team, app, bot string) gateway.EndpointState {
	return gateway.EndpointState{Status: gateway.EndpointActive, Checked: true, Endpoint: adapters.Endpoint{
		TenantID: tenant, InstanceID: instance, Channel: adapters.Slack, Mode: adapters.Socket, Address: team,
		Settings: map[string]string{adapters.AppID: app, adapters.BotID: bot},
	}}
}

// wantTaken fails the test unless err says that another endpoint of the deployment has the address.
func wantTaken(t *testing.T, err error, owner string) {
	t.Helper()
	taken, ok := errors.AsType[*gateway.AddressTakenError](err)
	if !ok || taken.Owner.ID != owner {
		t.Errorf("error = %v, want that instance %s owns the address", err, owner)
	}
}

func TestSaveEndpoint_AddressTaken(t *testing.T) {
	const team, app, bot, sandbox = "T024BE7LD", "A0ACME", "B0ACME", "+14155238886"
	number := func(channel adapters.Channel, n, account string) func(tenant, instance string) gateway.EndpointState {
		return func(tenant, instance string) gateway.EndpointState {
			return numberEndpoint(tenant, instance, channel, n, account)
		}
	}
	telegram := func(bot string) func(tenant, instance string) gateway.EndpointState {
		return func(tenant, instance string) gateway.EndpointState { return botEndpoint(tenant, instance, bot) }
	}
	slack := func(team, app, bot string) func(tenant, instance string) gateway.EndpointState {
		return func(tenant, instance string) gateway.EndpointState {
			return appEndpoint(tenant, instance, team, app, bot)
		}
	}
	for name, c := range map[string]struct {
		first, second func(tenant, instance string) gateway.EndpointState
		taken         bool
	}{
		"same bot":                          {telegram("42"), telegram("42"), true},
		"other bot":                         {telegram("42"), telegram("43"), false},
		"same number":                       {number("sms", "+61400", "AC1"), number("sms", "+61400", "AC1"), true},
		"same number in another account":    {number("sms", "+61400", "AC1"), number("sms", "+61400", "AC2"), true},
		"same number on WhatsApp":           {number("whatsapp", "+61400", "AC1"), number("whatsapp", "+61400", "AC1"), true},
		"same number for SMS and WhatsApp":  {number("sms", "+61400", "AC1"), number("whatsapp", "+61400", "AC1"), false},
		"WhatsApp sandbox of one account":   {number("whatsapp", sandbox, "AC1"), number("whatsapp", sandbox, "AC1"), true},
		"WhatsApp sandbox of two accounts":  {number("whatsapp", sandbox, "AC1"), number("whatsapp", sandbox, "AC2"), false},
		"same app in one workspace":         {slack(team, app, bot), slack(team, app, bot), true},
		"two apps in one workspace":         {slack(team, app, bot), slack(team, "A0OTHER", "B0OTHER"), false},
		"same app in another workspace":     {slack(team, app, bot), slack("T0OTHER", app, "B0OTHER"), false},
		"same app in an organization":       {slack("E0ACME", app, bot), slack("E0ACME", app, bot), true},
		"same app, unknown for the second":  {slack(team, app, bot), slack(team, "", bot), true},
		"same app, unknown for the first":   {slack(team, "", bot), slack(team, app, bot), true},
		"other app, unknown for the second": {slack(team, app, bot), slack(team, "", "B0OTHER"), false},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				mustSaveEndpoint(t, f.Store, c.first(f.tenant, f.instance), timeZero)
				mustSaveEndpoint(t, f.Store, c.first(f.tenant, f.instance), timeZero)
				sibling, stranger := newInstance(t, f.Store, f.tenant).ID, newTenant(t, f.Store)
				foreign := newInstance(t, f.Store, stranger).ID
				for _, second := range []gateway.EndpointState{c.second(stranger, foreign), c.second(f.tenant, sibling)} {
					_, err := f.SaveEndpoint(t.Context(), second, timeZero, identity.System)
					if !c.taken {
						must(t, err)
						must(t, f.RemoveEndpoint(t.Context(), second.TenantID, second.InstanceID, second.Channel, identity.System))
						continue
					}
					wantTaken(t, err, f.instance)
					if named := strings.Contains(err.Error(), f.instance); named != (second.TenantID == f.tenant) {
						t.Errorf("error in tenant %s = %v, want the instance named only in its tenant %s", second.TenantID, err, f.tenant)
					}
					if !strings.Contains(err.Error(), "already connected") {
						t.Errorf("error = %v, want that the address is already connected", err)
					}
					if _, err := f.EndpointState(t.Context(), second.TenantID, second.InstanceID, second.Channel); !errors.Is(err,
						gateway.ErrNoEndpoint) {
						t.Errorf("EndpointState() after a refused set-up = %v, want ErrNoEndpoint", err)
					}
				}
			})
		})
	}
}

// TestSaveEndpoint_AddressReleased tests that an address becomes free when its endpoint is removed,
// gets another address, or is deleted with its instance.
func TestSaveEndpoint_AddressReleased(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		other := newInstance(t, f.Store, newTenant(t, f.Store))
		claimant := botEndpoint(other.TenantID, other.ID, "42")
		for name, release := range map[string]func(){
			"removed": func() {
				must(t, f.RemoveEndpoint(t.Context(), f.tenant, f.instance, adapters.Telegram, identity.System))
			},
			"other bot": func() { mustSaveEndpoint(t, f.Store, botEndpoint(f.tenant, f.instance, "43"), timeZero) },
			"other bot, not checked": func() {
				ep := botEndpoint(f.tenant, f.instance, "44")
				ep.Checked = false
				mustSaveEndpoint(t, f.Store, ep, timeZero)
			},
			"instance deleted": func() {
				must(t, f.DeleteInstance(t.Context(), f.tenant, f.instance, identity.System))
				f.instance = newInstance(t, f.Store, f.tenant).ID
			},
		} {
			mustSaveEndpoint(t, f.Store, botEndpoint(f.tenant, f.instance, "42"), timeZero)
			_, err := f.SaveEndpoint(t.Context(), claimant, timeZero, identity.System)
			wantTaken(t, err, f.instance)
			release()
			if _, err := f.SaveEndpoint(t.Context(), claimant, timeZero, identity.System); err != nil {
				t.Errorf("%s: SaveEndpoint() of another instance = %v, want nil", name, err)
			}
			must(t, f.RemoveEndpoint(t.Context(), other.TenantID, other.ID, adapters.Telegram, identity.System))
		}
		must(t, f.DeleteInstance(t.Context(), f.tenant, f.instance, identity.System))
		if n := queryText(t, f.Store, `select cast(count(*) as text) from provider_addresses`); n != "0" {
			t.Errorf("addresses without an owner = %s, want none", n)
		}
	})
}

// TestSaveEndpoint_AddressRace tests that one of many concurrent set-ups gets an address, also if they
// swap addresses.
func TestSaveEndpoint_AddressRace(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		const claimants, rounds = 8, 5
		states := make([]gateway.EndpointState, claimants)
		for i := range states {
			tenant := newTenant(t, f.Store)
			states[i] = appEndpoint(tenant, newInstance(t, f.Store, tenant).ID, "T1", "A1", "B1")
		}
		for round := range rounds {
			var mu sync.Mutex
			var wg sync.WaitGroup
			var owners []string
			for _, s := range states {
				s.Settings = map[string]string{adapters.AppID: fmt.Sprint("A", round), adapters.BotID: fmt.Sprint("B", round%2)}
				wg.Go(func() {
					_, err := f.SaveEndpoint(t.Context(), s, timeZero, identity.System)
					if _, taken := errors.AsType[*gateway.AddressTakenError](err); err != nil && !taken {
						t.Errorf("SaveEndpoint() = %v, want nil or that the address is taken", err)
					}
					if err == nil {
						mu.Lock()
						owners = append(owners, s.InstanceID)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(owners) > 1 || round == 0 && len(owners) != 1 {
				t.Fatalf("round %d: %d of %d set-ups succeeded, want one", round, len(owners), claimants)
			}
		}
	})
}

// TestClaimAddresses tests the set-up that is completed after the provider was unavailable.
func TestClaimAddresses(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		second := newInstance(t, f.Store, newTenant(t, f.Store))
		pending := botEndpoint(second.TenantID, second.ID, "42")
		pending.Status, pending.Checked = gateway.EndpointError, false
		pending = mustSaveEndpoint(t, f.Store, pending, f.now())
		owner := mustSaveEndpoint(t, f.Store, botEndpoint(f.tenant, f.instance, "42"), timeZero)

		outdated := pending
		outdated.UpdatedAt = owner.UpdatedAt.AddDate(0, 0, -1)
		if ok, err := f.ClaimAddresses(t.Context(), outdated); ok || err != nil {
			t.Errorf("ClaimAddresses(outdated) = %v, %v, want false", ok, err)
		}
		if ok, err := f.ClaimAddresses(t.Context(), owner); !ok || err != nil {
			t.Errorf("ClaimAddresses(owner) = %v, %v, want true", ok, err)
		}
		_, err := f.ClaimAddresses(t.Context(), pending)
		wantTaken(t, err, f.instance)
		wantDisabled(t, f.Store, pending)
		if stored, err := f.SetEndpointStatus(t.Context(), pending, timeZero); stored || err != nil {
			t.Errorf("SetEndpointStatus() of a set-up in progress = %v, %v, want false", stored, err)
		}
		if due, err := f.EndpointsToRetry(t.Context(), 10); len(due) != 0 || err != nil {
			t.Errorf("EndpointsToRetry() = %d, %v, want none", len(due), err)
		}
		es := auditLog(t, f.Store, second.TenantID)
		if e := es[len(es)-1]; e.Kind != "channel.disabled" || e.InstanceID != second.ID ||
			e.Detail["reason"] != "address_taken" {
			t.Errorf("event = %+v", e)
		}
		must(t, f.RemoveEndpoint(t.Context(), f.tenant, f.instance, adapters.Telegram, identity.System))
		pending.Status, pending.Checked = gateway.EndpointActive, true
		mustSaveEndpoint(t, f.Store, pending, timeZero)
	})
}

// wantDisabled fails the test unless an endpoint is disabled and gets no webhooks.
func wantDisabled(t *testing.T, s *Store, state gateway.EndpointState) {
	t.Helper()
	got, err := s.EndpointState(t.Context(), state.TenantID, state.InstanceID, state.Channel)
	if err != nil || got.Status != gateway.EndpointDisabled || !strings.Contains(got.ErrorMessage, "already connected") {
		t.Errorf("endpoint of %s = %s %q, %v, want it disabled", state.InstanceID, got.Status, got.ErrorMessage, err)
	}
	if _, err := s.WebhookEndpoint(t.Context(), state.InstanceID, state.Channel); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("WebhookEndpoint() of %s = %v, want ErrNoEndpoint", state.InstanceID, err)
	}
}

// TestAssignAddresses tests a database in which several endpoints have the same address, from before
// addresses had owners.
func TestAssignAddresses(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		unowned := func(bot string, status gateway.EndpointStatus) gateway.EndpointState {
			instance := newInstance(t, s, newTenant(t, s))
			state := botEndpoint(instance.TenantID, instance.ID, bot)
			state.Status, state.Checked = status, false
			return mustSaveEndpoint(t, s, state, timeZero)
		}
		older, newer := unowned("42", gateway.EndpointActive), unowned("42", gateway.EndpointActive)
		failing, other := unowned("42", gateway.EndpointError), unowned("43", gateway.EndpointActive)
		unproven := unowned("44", gateway.EndpointError)
		for range 2 { // each start
			conflicts, err := s.AssignAddresses(t.Context())
			must(t, err)
			if len(conflicts) != 1 || !conflicts[0].Owned || conflicts[0].Address.ID != "42" ||
				len(conflicts[0].Endpoints) != 3 || conflicts[0].Endpoints[0].ID != newer.ID {
				t.Fatalf("AssignAddresses() = %+v, want one conflict, owned by the newer endpoint", conflicts)
			}
			wantDisabled(t, s, older)
			wantDisabled(t, s, failing)
			polling, err := s.PollingEndpoints(t.Context())
			if err != nil || len(polling) != 2 {
				t.Errorf("PollingEndpoints() = %d, %v, want %s and %s", len(polling), err, newer.ID, other.ID)
			}
		}
		claimant := unowned("44", gateway.EndpointActive)
		claimant.Checked = true
		mustSaveEndpoint(t, s, claimant, timeZero)
		if _, err := s.ClaimAddresses(t.Context(), unproven); !isAddressTaken(err) {
			t.Errorf("ClaimAddresses() of an endpoint that never was active = %v, want that the address is taken", err)
		}
	})
}

// TestAcquirePollLease_PerAddress tests that a bot is polled for one endpoint at a time, also while the
// poller of an endpoint that was removed still runs.
func TestAcquirePollLease_PerAddress(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		acquire := func(ep gateway.EndpointState, holder string) bool {
			t.Helper()
			_, _, ok, err := f.AcquirePollLease(t.Context(), ep.TenantID, ep.ID, holder)
			must(t, err)
			return ok
		}
		first := mustSaveEndpoint(t, f.Store, botEndpoint(f.tenant, f.instance, "42"), timeZero)
		twin := newInstance(t, f.Store, newTenant(t, f.Store))
		unchecked := botEndpoint(twin.TenantID, twin.ID, "42")
		unchecked.Checked = false
		second := mustSaveEndpoint(t, f.Store, unchecked, timeZero)
		for _, step := range []string{"acquire", "renew"} {
			if !acquire(first, "one") {
				t.Fatalf("the owner cannot %s the lease", step)
			}
		}
		if acquire(second, "two") || acquire(second, "one") {
			t.Error("an endpoint acquired the lease of a bot that another one owns")
		}
		must(t, f.RemoveEndpoint(t.Context(), f.tenant, f.instance, adapters.Telegram, identity.System))
		if acquire(second, "two") {
			t.Error("an endpoint acquired the lease of a bot that is still polled")
		}
		must(t, f.ReleasePollLease(t.Context(), first.Endpoint, "one", 1))
		if !acquire(second, "two") { // as if a replica of an older version had set it up
			t.Error("the new owner cannot acquire the lease after its release")
		}
		must(t, f.ReleaseStale(t.Context()))
		if !acquire(second, "three") {
			t.Error("the owner cannot acquire the lease after ReleaseStale")
		}
	})
}

// TestWebhookEndpoint_Pool tests that an endpoint receives what is sent to a pool of numbers, without
// the numbers of other endpoints.
func TestWebhookEndpoint_Pool(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		save := func(channel adapters.Channel, number, account, service string) gateway.EndpointState {
			instance := newInstance(t, f.Store, newTenant(t, f.Store))
			state := numberEndpoint(instance.TenantID, instance.ID, channel, number, account)
			state.Settings = map[string]string{adapters.MessagingService: service}
			return mustSaveEndpoint(t, f.Store, state, timeZero)
		}
		wantPool := func(ep gateway.EndpointState, want string) {
			t.Helper()
			got, err := f.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
			if pool := fmt.Sprint(got.Pool); err != nil || pool != want {
				t.Errorf("pool of %s = %s, %v, want %s", ep.Address, pool, err, want)
			}
		}
		owner := save(adapters.SMS, "+61401", "AC1", "MG1")
		wantPool(owner, "{MG1 []}")
		member := save(adapters.SMS, "+61402", "AC1", "MG1")
		save(adapters.WhatsApp, "+61403", "AC1", "")
		save(adapters.SMS, "+61404", "AC2", "")
		wantPool(owner, "{MG1 [{sms +61402} {whatsapp +61403}]}")
		wantPool(member, "{ [{sms +61401} {sms MG1} {whatsapp +61403}]}")
		tasks, err := f.LeaseBackfills(t.Context(), []adapters.Channel{adapters.SMS}, 10)
		must(t, err)
		for _, task := range tasks {
			if task.State.ID == owner.ID && fmt.Sprint(task.State.Pool) != "{MG1 [{sms +61402} {whatsapp +61403}]}" {
				t.Errorf("pool to back-fill = %v, want it without the numbers of others", task.State.Pool)
			}
		}
		must(t, f.RemoveEndpoint(t.Context(), owner.TenantID, owner.InstanceID, owner.Channel, identity.System))
		wantPool(member, "{ [{whatsapp +61403}]}")
		if _, err := f.AssignAddresses(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPool(member, "{MG1 [{whatsapp +61403}]}")
	})
}
