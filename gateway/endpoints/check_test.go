package endpoints

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A reportingProvider is a fakeProvider that reports the status of its endpoint. Connect corrects it.
type reportingProvider struct {
	fakeProvider
	mu     sync.Mutex
	report adapters.Report
	err    error
	asked  int
}

func (p *reportingProvider) Status(
	_ context.Context, ep adapters.Endpoint, _ time.Time,
) (adapters.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	r := p.report
	r.Settings = ep.Settings
	return r, p.err
}

func (p *reportingProvider) say(r adapters.Report, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report, p.err = r, err
}

func (p *reportingProvider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// A fakeCheckStore is a CheckStore for the endpoint of instance i.
type fakeCheckStore struct {
	*fakeStore
	mu       sync.Mutex
	due      time.Time
	check    gateway.EndpointCheck
	repaired time.Time
	changes  []string // of the status
	results  []gateway.CheckResult
	notices  []gateway.Notice
}

func (s *fakeCheckStore) EndpointsToCheck(context.Context, int) ([]gateway.EndpointCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.due) {
		return nil, nil
	}
	s.due = time.Now().Add(4 * time.Minute)
	c := s.check
	c.SinceRepair = time.Since(s.repaired)
	return []gateway.EndpointCheck{c}, nil
}

func (s *fakeCheckStore) ScheduleChecks(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Now()
	return nil
}

func (s *fakeCheckStore) RecordCheck(
	_ context.Context, _ gateway.EndpointState, r gateway.CheckResult,
) (gateway.EndpointStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, r)
	s.due = time.Now().Add(r.Next)
	s.check.Failures++
	if r.Repaired {
		s.repaired = time.Now()
	}
	if r.Unknown {
		return s.check.State.Status, nil
	}
	s.check.Reported = false
	status := gateway.EndpointActive
	if r.Fault == "" {
		s.check.Failures = 0
	} else {
		status = gateway.EndpointError
	}
	if status != s.check.State.Status {
		s.changes = append(s.changes, string(status))
	}
	s.check.State.Status, s.check.State.Settings = status, r.Settings
	return status, nil
}

func (s *fakeCheckStore) RecordNotice(_ context.Context, _ adapters.Endpoint, n gateway.Notice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, n)
	s.due, s.check.Reported = time.Now(), n.Kind == gateway.ProviderNotice
	return nil
}

func (s *fakeCheckStore) EndpointNotices(context.Context, string, string) (map[string][]gateway.Notice, error) {
	return map[string][]gateway.Notice{"endpoint of i": s.notices}, nil
}

func (s *fakeCheckStore) EndpointStatuses(context.Context) ([]gateway.EndpointState, error) {
	return nil, nil
}

func (s *fakeCheckStore) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.changes, " ")
}

// newCheckedManager returns a running manager with an active endpoint of instance i.
func newCheckedManager(t *testing.T) (*Manager, *reportingProvider, *fakeCheckStore) {
	t.Helper()
	p := &reportingProvider{fakeProvider: fakeProvider{channel: adapters.Telegram}}
	m, s := newManager(&p.fakeProvider)
	m.Adapters[adapters.Telegram] = p
	state := mustConfigure(t, m, tokenCredentials)
	checks := &fakeCheckStore{fakeStore: s, check: gateway.EndpointCheck{State: state}, due: time.Now()}
	m.Checks = checks
	return m, p, checks
}

// TestRun_Checks checks that a fault is shown before it is corrected, and not corrected too often.
func TestRun_Checks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, p, s := newCheckedManager(t)
		stolen := adapters.Report{Fault: "elsewhere", RepairInterval: adapters.RepairForeign}
		p.connect = func(context.Context, adapters.Endpoint) error {
			p.say(adapters.Report{}, nil)
			return nil
		}
		p.say(stolen, nil)
		defer runManager(t, m)()
		<-time.After(5 * time.Second)
		if got := s.log(); got != "error" {
			t.Errorf("changes of the status after a stolen webhook = %q, want error first", got)
		}
		<-time.After(30 * time.Second)
		if got := s.log(); got != "error active" {
			t.Errorf("changes of the status = %q, want a repair within half a minute", got)
		}
		p.say(stolen, nil) // again: the other program is alive
		<-time.After(20 * time.Hour)
		if got := s.log(); got != "error active error" {
			t.Errorf("changes of the status when it is stolen again = %q, want no second repair within a day", got)
		}
		<-time.After(5 * time.Hour)
		if got := s.log(); got != "error active error active" {
			t.Errorf("changes of the status a day later = %q, want another repair", got)
		}
	})
}

// TestRun_ChecksAreCheap checks how often a provider is asked, and that an endpoint which it does not
// know any more works again by itself.
func TestRun_ChecksAreCheap(t *testing.T) {
	for _, tt := range []struct {
		name     string
		report   adapters.Report
		err      error
		min, max int // in an hour
		status   string
	}{
		{"active", adapters.Report{}, nil, 9, 16, ""},
		{"not repairable", adapters.Report{Fault: "uninstalled"}, nil, 11, 22, "error"},
		{"revoked", adapters.Report{}, &adapters.SetupError{Reason: adapters.BadSecret, Message: "revoked"}, 11, 22, "error"},
		{"unavailable", adapters.Report{}, &adapters.SetupError{Reason: adapters.Unreachable}, 5, 20, ""},
		{
			"throttled",
			adapters.Report{},
			&adapters.SetupError{Reason: adapters.Throttled, RetryAfter: 50 * time.Minute}, 2, 2, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, p, s := newCheckedManager(t)
				p.say(tt.report, tt.err)
				stop := runManager(t, m)
				<-time.After(time.Hour)
				if n := p.count(); n < tt.min || n > tt.max || s.log() != tt.status {
					t.Errorf("asked %d times in an hour with changes %q, want %d to %d, %q", n, s.log(), tt.min, tt.max, tt.status)
				}
				p.say(adapters.Report{}, nil)
				<-time.After(11 * time.Minute)
				if want := strings.TrimSpace(tt.status + strings.Repeat(" active", len(tt.status)/5)); s.log() != want {
					t.Errorf("changes of the status = %q, want %q", s.log(), want)
				}
				stop()
			})
		})
	}
}

// TestRun_Rejection checks that valid credentials which the provider rejects for a moment do not change the
// status, and that what the provider reports itself does so at once.
func TestRun_Rejection(t *testing.T) {
	revoked := &adapters.SetupError{Reason: adapters.BadSecret, Message: "revoked"}
	for _, tt := range []struct {
		name     string
		outage   time.Duration
		reported bool
		after    time.Duration
		want     string
	}{
		{"for a moment", 5 * time.Second, false, time.Hour, ""},
		{"for good", time.Hour, false, 30 * time.Second, "error"},
		{"reported", time.Hour, true, time.Millisecond, "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, p, s := newCheckedManager(t)
				defer runManager(t, m)()
				synctest.Wait()
				p.say(adapters.Report{}, revoked)
				s.mu.Lock()
				s.due = time.Now()
				s.mu.Unlock()
				m.noticed() <- struct{}{}
				if tt.reported {
					m.Notify(t.Context(), s.row("i").Endpoint, gateway.Notice{Kind: gateway.ProviderNotice, Reason: "revoked"})
				}
				time.AfterFunc(tt.outage, func() { p.say(adapters.Report{}, nil) })
				<-time.After(tt.after)
				synctest.Wait()
				if got := s.log(); got != tt.want {
					t.Errorf("changes of the status within %v = %q, want %q", tt.after, got, tt.want)
				}
			})
		})
	}
}

// TestCheck_MenuThrottled checks that a menu of commands which Telegram refuses to set is a warning.
func TestCheck_MenuThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram}
		m, s := newManager(p)
		p.connect = func(context.Context, adapters.Endpoint) error {
			return &adapters.SetupError{
				Reason:     adapters.Throttled,
				RetryAfter: 600 * time.Second,
				Optional:   true,
				Message:    "no menu",
			}
		}
		state := mustConfigure(t, m, tokenCredentials)
		if state.Status != gateway.EndpointActive || state.Settings[adapters.Warning] != "no menu" ||
			!s.row("i").due.IsZero() {
			t.Errorf("Configure() = %v with warning %q, due %v, want an active endpoint with the warning",
				state.Status, state.Settings[adapters.Warning], s.row("i").due)
		}
	})
}

// TestConfigure_RetryAfter checks that a set-up is not repeated before the provider allows it.
func TestConfigure_RetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram}
		m, s := newManager(p)
		p.connect = func(context.Context, adapters.Endpoint) error {
			return &adapters.SetupError{Reason: adapters.Throttled, RetryAfter: 600 * time.Second}
		}
		mustConfigure(t, m, tokenCredentials)
		if d := time.Until(s.row("i").due); d < 600*time.Second {
			t.Errorf("retried after %v, want at least 600 s", d)
		}
	})
}

// TestConfigure_OtherBot checks that the provider stops calling the gateway for the previous bot.
func TestConfigure_OtherBot(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, s := newManager(p)
	mustConfigure(t, m, tokenCredentials)
	s.setAddress("bot 6")
	var disconnected string
	p.disconnect = func(_ context.Context, ep adapters.Endpoint) error {
		disconnected = ep.Address + " " + ep.WebhookURL
		return nil
	}
	mustConfigure(t, m, tokenCredentials)
	if want := "bot 6 https://gate.example.com/hooks/telegram/i"; disconnected != want {
		t.Errorf("disconnected %q, want %q", disconnected, want)
	}
	if got, want := p.callLog(), "check connect check disconnect connect"; got != want {
		t.Errorf("provider calls = %q, want %q", got, want)
	}
}

// TestNotify checks that floods of refused requests are stored once a minute, and what staff see.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, s := newCheckedManager(t)
		ep := s.row("i").Endpoint
		for n := range 1000 {
			m.Notify(t.Context(), ep, gateway.Notice{Kind: gateway.WebhookRefused, Reason: "signature", Detail: "url"})
			if n == 500 {
				m.Notify(t.Context(), ep, gateway.Notice{Kind: gateway.WebhookRefused, Reason: "stale"})
			}
		}
		m.Notify(t.Context(), adapters.Endpoint{}, gateway.Notice{})
		<-time.After(time.Minute)
		m.Notify(t.Context(), ep, gateway.Notice{Kind: gateway.SendRefused, Reason: "token_revoked"})
		if len(s.notices) != 3 {
			t.Errorf("%d notices stored, want 3", len(s.notices))
		}
		states, err := m.EndpointStates(t.Context(), "t", "i")
		if err != nil || len(states) != 1 || !strings.Contains(fmt.Sprint(states[0].Warnings), "refused (signature)") ||
			!strings.Contains(fmt.Sprint(states[0].Warnings), "token_revoked") {
			t.Errorf("EndpointStates() has warnings %q, %v", states[0].Warnings, err)
		}
	})
}

// TestCheck_Panic checks that a panic of an adapter is an error and ends nothing else.
func TestCheck_Panic(t *testing.T) {
	m, _, s := newCheckedManager(t)
	m.Adapters[adapters.Telegram] = panickingReporter{}
	if err := m.checkSafely(t.Context(), s.check); !errors.Is(err, gateway.ErrPanic) {
		t.Errorf("checkSafely() = %v, want ErrPanic", err)
	}
}

type panickingReporter struct{ adapters.StatusReporter }

func (panickingReporter) Status(context.Context, adapters.Endpoint, time.Time) (adapters.Report, error) {
	panic("oops")
}
