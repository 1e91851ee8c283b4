package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
	"hydragate/identity"
)

var _ endpoints.CheckStore = (*Store)(nil)

// makeDue makes all checks due.
func (f *fixture) makeDue() {
	f.t.Helper()
	if err := f.ScheduleChecks(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// checks leases all checks that are due.
func (f *fixture) checks() []gateway.EndpointCheck {
	f.t.Helper()
	cs, err := f.EndpointsToCheck(f.t.Context(), 10)
	if err != nil {
		f.t.Fatal(err)
	}
	return cs
}

// statusEvents returns the changes of status in the audit log, oldest first.
func (f *fixture) statusEvents() string {
	f.t.Helper()
	events, err := f.AuditEvents(f.t.Context(), f.tenant, identity.EventQuery{Kind: "channel.status"}, "", 100)
	if err != nil {
		f.t.Fatal(err)
	}
	var changes []string
	for i := range events {
		e := events[len(events)-1-i]
		changes = append(changes, e.Detail["channel"]+" "+e.Detail["to"]+" "+e.Detail["error"])
	}
	return strings.Join(changes, "; ")
}

func TestRecordCheck(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		saved := mustSaveEndpoint(
			t,
			f.Store,
			gateway.EndpointState{Endpoint: endpoint(f.tenant, f.instance), Checked: true},
			timeZero,
		)
		record := func(r gateway.CheckResult, wantStatus gateway.EndpointStatus, wantMessage string) {
			t.Helper()
			r.Next = time.Hour
			status, err := f.RecordCheck(t.Context(), saved, r)
			got, readErr := f.EndpointState(t.Context(), f.tenant, f.instance, adapters.SMS)
			if err != nil || readErr != nil || status != wantStatus || got.Status != wantStatus ||
				got.ErrorMessage != wantMessage ||
				fmt.Sprint(got.Warnings) != fmt.Sprint(r.Warnings) {
				t.Errorf("RecordCheck(%+v) = %v, %v, stored %v %q %v, want %v %q", r, status, err, got.Status, got.ErrorMessage,
					got.Warnings, wantStatus, wantMessage)
			}
		}
		record(gateway.CheckResult{}, gateway.EndpointActive, "")
		record(gateway.CheckResult{Fault: "elsewhere"}, gateway.EndpointError, "elsewhere")
		record(gateway.CheckResult{Fault: "elsewhere"}, gateway.EndpointError, "elsewhere")
		record(gateway.CheckResult{Unknown: true, Warnings: []string{"no answer"}}, gateway.EndpointError, "elsewhere")
		record(gateway.CheckResult{Fault: "gone", Warnings: []string{"a", "b"}}, gateway.EndpointError, "gone")
		record(gateway.CheckResult{Repaired: true, Settings: map[string]string{"k": "v"}}, gateway.EndpointActive, "")
		record(gateway.CheckResult{Unknown: true, Warnings: []string{"no answer"}}, gateway.EndpointActive, "")
		if got, want := f.statusEvents(), "sms error elsewhere; sms active "; got != want {
			t.Errorf("events = %q, want one for each change: %q", got, want)
		}
		got, err := f.EndpointState(t.Context(), f.tenant, f.instance, adapters.SMS)
		if err != nil || got.Settings["k"] != "v" || got.Address != saved.Address {
			t.Errorf("settings = %v, %v, want those of the provider", got.Settings, err)
		}
		again := mustSaveEndpoint(
			t,
			f.Store,
			gateway.EndpointState{Endpoint: endpoint(f.tenant, f.instance), Checked: true},
			timeZero,
		)
		if _, err := f.RecordCheck(t.Context(), saved, gateway.CheckResult{Fault: "old"}); !errors.Is(
			err,
			gateway.ErrNoEndpoint,
		) {
			t.Errorf("RecordCheck() of a replaced endpoint = %v, want ErrNoEndpoint", err)
		}
		if _, err := f.RecordCheck(t.Context(), again, gateway.CheckResult{}); err != nil {
			t.Error(err)
		}
	})
}

// TestRecordPoll checks that the fault of a poller and that of a check do not replace each other.
func TestRecordPoll(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		ep := endpoint(f.tenant, f.instance)
		ep.Channel, ep.Mode = adapters.Telegram, adapters.Polling
		saved := mustSaveEndpoint(t, f.Store, gateway.EndpointState{Endpoint: ep, Checked: true}, timeZero)
		epoch, _, ok, err := f.AcquirePollLease(t.Context(), f.tenant, saved.ID, "a")
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		lease := gateway.Cursor{Holder: "a", Epoch: epoch}
		poll := func(fault string, want gateway.EndpointStatus) {
			t.Helper()
			if got, err := f.RecordPoll(t.Context(), saved, lease, fault); got != want || err != nil {
				t.Errorf("RecordPoll(%q) = %v, %v, want %v", fault, got, err, want)
			}
		}
		check := func(fault string, want gateway.EndpointStatus) {
			t.Helper()
			got, err := f.RecordCheck(t.Context(), saved, gateway.CheckResult{Fault: fault, Next: time.Hour})
			if got != want || err != nil {
				t.Errorf("RecordCheck(%q) = %v, %v, want %v", fault, got, err, want)
			}
		}
		check("", gateway.EndpointActive)
		poll("", gateway.EndpointActive)
		poll("conflict", gateway.EndpointError)
		if cs := f.checks(); len(cs) != 1 {
			t.Errorf("%d checks are due after a new fault, want 1", len(cs))
		}
		check("", gateway.EndpointError)
		if polling, err := f.PollingEndpoints(t.Context()); err != nil || len(polling) != 1 {
			t.Errorf("PollingEndpoints() = %d, %v, want the endpoint with the fault", len(polling), err)
		}
		if _, _, ok, err := f.AcquirePollLease(t.Context(), f.tenant, saved.ID, "a"); !ok || err != nil {
			t.Errorf("the lease of an endpoint with a fault is not renewed: %v", err)
		}
		check("revoked", gateway.EndpointError)
		poll("", gateway.EndpointError)
		check("", gateway.EndpointActive)
		if _, err := f.RecordPoll(t.Context(), saved, gateway.Cursor{Holder: "b", Epoch: epoch}, "x"); !errors.Is(err,
			gateway.ErrNoEndpoint) {
			t.Errorf("RecordPoll() without the lease = %v, want ErrNoEndpoint", err)
		}
		if got, want := f.statusEvents(), "telegram error conflict; telegram active "; got != want {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

// TestEndpointsToCheck checks that concurrent replicas share the checks, and which endpoints have none.
func TestEndpointsToCheck(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for n := range 6 {
			ep := endpoint(f.tenant, newInstance(t, f.Store, f.tenant).ID)
			ep.Address = fmt.Sprintf("+6140011122%d", n)
			state := gateway.EndpointState{Endpoint: ep, Checked: true}
			var retryAt time.Time
			switch n {
			case 4:
				state.Status = gateway.EndpointDisabled
			case 5:
				retryAt = time.Now().Add(time.Hour) // the set-up is not complete
			}
			mustSaveEndpoint(t, f.Store, state, retryAt)
		}
		f.makeDue()
		var mu sync.Mutex
		var wg sync.WaitGroup
		leased := map[string]int{}
		for range 3 {
			wg.Go(func() {
				cs, err := f.EndpointsToCheck(t.Context(), 10)
				mu.Lock()
				defer mu.Unlock()
				for _, c := range cs {
					leased[c.State.ID]++
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for id, n := range leased {
			if n != 1 {
				t.Errorf("endpoint %s was leased %d times, want once", id, n)
			}
		}
		if len(leased) != 4 {
			t.Errorf("%d endpoints leased, want 4", len(leased))
		}
		f.makeDue()
		cs := f.checks()
		if len(cs) != 4 || cs[0].SinceRepair < 1000*time.Hour || cs[0].Failures != 0 {
			t.Fatalf("%d checks, since repair %v, %d failures", len(cs), cs[0].SinceRepair, cs[0].Failures)
		}
		for _, r := range []gateway.CheckResult{{Fault: "x", Repaired: true}, {Unknown: true}} {
			if _, err := f.RecordCheck(t.Context(), cs[0].State, r); err != nil {
				t.Fatal(err)
			}
		}
		again := f.checks()
		if len(again) != 1 || again[0].SinceRepair > time.Minute || again[0].Failures != 2 {
			t.Errorf("checks after a repair = %d, since repair %v, %d failures, want 1, just now, 2",
				len(again), again[0].SinceRepair, again[0].Failures)
		}
		statuses, err := f.EndpointStatuses(t.Context())
		if err != nil || len(statuses) != 5 {
			t.Errorf("EndpointStatuses() = %d, %v, want 5", len(statuses), err)
		}
	})
}

// TestRecordNotice checks that notices cause at most one check a minute, and belong to a tenant.
func TestRecordNotice(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		saved := mustSaveEndpoint(
			t,
			f.Store,
			gateway.EndpointState{Endpoint: endpoint(f.tenant, f.instance), Checked: true},
			timeZero,
		)
		notify := func(kind gateway.NoticeKind, reason string, wantDue int) {
			t.Helper()
			if err := f.RecordNotice(t.Context(), saved.Endpoint, gateway.Notice{Kind: kind, Reason: reason}); err != nil {
				t.Error(err)
			}
			if n := len(f.checks()); n != wantDue {
				t.Errorf("%d checks due after notice %s %s, want %d", n, kind, reason, wantDue)
			}
		}
		f.checks()
		notify(gateway.WebhookRefused, "signature", 1)
		if _, err := f.RecordCheck(t.Context(), saved, gateway.CheckResult{Next: time.Hour}); err != nil {
			t.Fatal(err)
		}
		notify(gateway.WebhookRefused, "signature", 0)
		notify(gateway.WebhookRefused, "stale", 0)
		notify(gateway.SendRefused, "token_revoked", 0)
		got, err := f.EndpointNotices(t.Context(), f.tenant, f.instance)
		ns := got[saved.ID]
		if err != nil || len(ns) != 2 || ns[0].Reason != "token_revoked" || ns[1].Reason != "stale" ||
			time.Since(ns[1].At) > time.Minute {
			t.Errorf("EndpointNotices() = %+v, %v, want the latest of two kinds", got, err)
		}
		notify(gateway.ProviderNotice, "tokens_revoked", 1) // what the provider says itself is checked now
		notify(gateway.ProviderNotice, "app_uninstalled", 1)
		f.makeDue()
		if cs := f.checks(); len(cs) != 1 || !cs[0].Reported {
			t.Errorf("checks after the notice = %+v, want one that says that the provider reported it", cs)
		}
		err = f.RecordNotice(t.Context(), saved.Endpoint, gateway.Notice{Kind: gateway.ProviderNotice, Reason: "other"})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 0} { // the first check began before the notice
			if _, err := f.RecordCheck(t.Context(), saved, gateway.CheckResult{Next: time.Hour}); err != nil {
				t.Fatal(err)
			}
			if cs := f.checks(); len(cs) != want {
				t.Errorf("%d checks due after a check, want %d", len(cs), want)
			}
		}
		other := newFixture(t, f.Store)
		if got, err := f.EndpointNotices(t.Context(), other.tenant, f.instance); err != nil || len(got) != 0 {
			t.Errorf("EndpointNotices() of another tenant = %v, %v, want none", got, err)
		}
		foreign := saved.Endpoint
		foreign.TenantID = other.tenant
		notice := gateway.Notice{Kind: gateway.ProviderNotice, Reason: "x"}
		if err := f.RecordNotice(t.Context(), foreign, notice); err != nil {
			t.Error(err)
		}
		if got, _ := f.EndpointNotices(t.Context(), f.tenant, f.instance); len(got[saved.ID]) != 3 {
			t.Errorf("another tenant stored a notice: %+v", got)
		}
	})
}
