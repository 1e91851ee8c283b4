package endpoints

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

func TestRun_RetriesUnreachable(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(*fakeProvider) *providerFunc
	}{
		{"check", func(p *fakeProvider) *providerFunc { return &p.check }},
		{"connect", func(p *fakeProvider) *providerFunc { return &p.connect }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakeProvider{channel: adapters.Telegram}
				m, s := newManager(p)
				p.set(tt.call(p), failWith(adapters.Unreachable))
				state := mustConfigure(t, m, tokenCredentials)
				if state.Status != gateway.EndpointError || state.ErrorMessage != "The provider reports unreachable." {
					t.Fatalf("Configure() = %v %q, want the error of the provider", state.Status, state.ErrorMessage)
				}
				if d := time.Until(s.row("i").due); d < 10*time.Second || d > 13*time.Second {
					t.Errorf("first retry in %v, want 10 to 13 s", d)
				}
				stop := runManager(t, m)
				<-time.After(time.Hour)
				if row := s.row("i"); row.Status != gateway.EndpointError || row.Retries < 6 {
					t.Errorf("after an hour: status %v after %d retries, want error after at least 6", row.Status, row.Retries)
				}
				if d := time.Until(s.row("i").due); d > 10*time.Minute {
					t.Errorf("next retry in %v, want at most 10 min", d)
				}
				p.set(tt.call(p), nil)
				<-time.After(11 * time.Minute)
				row := s.row("i")
				if row.Status != gateway.EndpointActive || row.ErrorMessage != "" || row.Retries != 0 ||
					row.Address != "bot 7" || !row.due.IsZero() {
					t.Errorf("stored %v %q with %d retries and address %q, want an active endpoint that is not due",
						row.Status, row.ErrorMessage, row.Retries, row.Address)
				}
				calls := p.callLog()
				if url := p.lastEndpoint().WebhookURL; !strings.HasSuffix(calls, "check connect") || url == "" {
					t.Errorf("provider calls = %q with URL %q, want check and connect last", calls, url)
				}
				<-time.After(time.Hour)
				if p.callLog() != calls {
					t.Error("the provider is called after the set-up was completed")
				}
				stop()
			})
		})
	}
}

func TestRun_StopsRetryingWhenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram, check: failWith(adapters.Throttled)}
		m, s := newManager(p)
		mustConfigure(t, m, tokenCredentials)
		p.check = failWith(adapters.BadSecret)
		stop := runManager(t, m)
		<-time.After(time.Hour)
		row := s.row("i")
		if row.Status != gateway.EndpointError || row.ErrorMessage != "The provider reports bad_secret." {
			t.Errorf("stored %v %q, want the error of the provider", row.Status, row.ErrorMessage)
		}
		if got, want := p.callLog(), "check check"; got != want {
			t.Errorf("provider calls = %q, want %q", got, want)
		}
		stop()
	})
}

func TestRun_StopsWhileProviderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram, check: failWith(adapters.Unreachable)}
		m, s := newManager(p)
		mustConfigure(t, m, tokenCredentials)
		p.check = hang
		stop := runManager(t, m)
		<-time.After(20 * time.Second)
		started := time.Now()
		stop()
		if d := time.Since(started); d != 0 {
			t.Errorf("Run returned after %v, want immediately", d)
		}
		if s.row("i").due.IsZero() {
			t.Error("the endpoint is not due any more although it was not set up")
		}
	})
}

func TestRemove(t *testing.T) {
	for _, tt := range []struct {
		name       string
		disconnect providerFunc
	}{
		{"provider responds", nil},
		{"provider refuses", failWith(adapters.BadSecret)},
		{"provider hangs", hang},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakeProvider{channel: adapters.Telegram, disconnect: tt.disconnect}
				m, s := newManager(p)
				mustConfigure(t, m, tokenCredentials)
				started := time.Now()
				if err := m.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k"); err != nil || s.row("i").ID != "" {
					t.Errorf("Remove() = %v, want nil and no row", err)
				}
				if d := time.Since(started); d > disconnectTimeout {
					t.Errorf("Remove took %v, want at most %v", d, disconnectTimeout)
				}
				if got, want := p.lastEndpoint().WebhookURL, "https://gate.example.com/hooks/telegram/i"; got != want {
					t.Errorf("disconnected %q, want %q", got, want)
				}
				err := m.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k")
				if !errors.Is(err, gateway.ErrNoEndpoint) {
					t.Errorf("second Remove() = %v, want ErrNoEndpoint", err)
				}
				if _, err := m.Endpoint(t.Context(), "i", adapters.Telegram); !errors.Is(err, gateway.ErrNoEndpoint) {
					t.Errorf("Endpoint() = %v, want ErrNoEndpoint", err)
				}
			})
		})
	}
}

func TestEndpointStates_WebhookURL(t *testing.T) {
	p := &fakeProvider{channel: adapters.Slack}
	m, _ := newManager(p)
	mustConfigure(t, m, tokenCredentials)
	const want = "https://gate.example.com/hooks/slack/i"
	states, err := m.EndpointStates(t.Context(), "t", "i")
	if err != nil || len(states) != 1 || states[0].WebhookURL != want {
		t.Errorf("EndpointStates() = %d endpoints, %v, want one with webhook URL %q", len(states), err, want)
	}
	state, err := m.EndpointState(t.Context(), "t", "i", adapters.Slack)
	if err != nil || state.WebhookURL != want {
		t.Errorf("EndpointState() has webhook URL %q, %v, want %q", state.WebhookURL, err, want)
	}
}

var _ gateway.EndpointFinder = (*Manager)(nil)

// A fakeStore is a Store in memory with at most one endpoint of each instance.
type fakeStore struct {
	mu       sync.Mutex
	rows     map[string]endpointRow // by instance
	saved    int                    // calls that changed UpdatedAt
	reads    atomic.Int64           // calls of WebhookEndpoint
	err      error                  // not nil: returned by WebhookEndpoint and SaveEndpoint
	readGate chan struct{}          // not nil: reads wait until it is closed

	owner *gateway.AddressTakenError // not nil: another endpoint owns every address
}

// An endpointRow is a stored endpoint. due is when to retry its set-up; zero: never.
type endpointRow struct {
	gateway.EndpointState
	due time.Time
}

// row returns the endpoint of an instance, or the zero value.
func (s *fakeStore) row(instance string) endpointRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[instance]
}

// setAddress changes the address of instance i without invalidating the cache, as another replica
// does.
func (s *fakeStore) setAddress(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows["i"]
	row.Address = address
	s.rows["i"] = row
}

func (s *fakeStore) EndpointState(
	_ context.Context, _, instance string, _ adapters.Channel,
) (gateway.EndpointState, error) {
	row := s.row(instance)
	switch {
	case instance == "gone":
		return row.EndpointState, gateway.ErrNoInstance
	case row.ID == "":
		return row.EndpointState, gateway.ErrNoEndpoint
	}
	return row.EndpointState, nil
}

func (s *fakeStore) EndpointStates(_ context.Context, _, instance string) ([]gateway.EndpointState, error) {
	return []gateway.EndpointState{s.row(instance).EndpointState}, nil
}

func (s *fakeStore) WebhookEndpoint(
	_ context.Context, instance string, _ adapters.Channel,
) (adapters.Endpoint, error) {
	s.reads.Add(1)
	row, err := s.row(instance), s.err
	if s.readGate != nil {
		<-s.readGate
	}
	if err == nil && row.ID == "" {
		err = gateway.ErrNoEndpoint
	}
	return row.Endpoint, err
}

func (s *fakeStore) SaveEndpoint(
	_ context.Context, state gateway.EndpointState, retryAt time.Time, _ identity.Actor,
) (gateway.EndpointState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return gateway.EndpointState{}, s.err
	case s.owner != nil && state.Checked:
		return gateway.EndpointState{}, s.owner
	}
	s.saved++
	state.ID, state.WebhookURL, state.UpdatedAt = "endpoint of "+state.InstanceID, "", time.Unix(int64(s.saved), 0)
	s.rows[state.InstanceID] = endpointRow{state, retryAt}
	return state, nil
}

func (s *fakeStore) SetEndpointStatus(
	_ context.Context, state gateway.EndpointState, retryAt time.Time,
) (current bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[state.InstanceID]
	if !ok {
		return false, nil
	}
	if current = row.UpdatedAt.Equal(state.UpdatedAt); current {
		row.Status, row.ErrorMessage, row.Retries = state.Status, state.ErrorMessage, state.Retries
		row.Address, row.Settings, row.due = state.Address, state.Settings, retryAt
	} else {
		s.saved++
		row.UpdatedAt, row.due = time.Unix(int64(s.saved), 0), time.Now()
	}
	s.rows[state.InstanceID] = row
	return current, nil
}

func (s *fakeStore) ClaimAddresses(_ context.Context, state gateway.EndpointState) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[state.InstanceID]
	if s.owner != nil {
		row.Status, row.ErrorMessage, row.due = gateway.EndpointDisabled, s.owner.Error(), time.Time{}
		s.rows[state.InstanceID] = row
		return false, s.owner
	}
	return row.UpdatedAt.Equal(state.UpdatedAt), nil
}

func (s *fakeStore) EndpointsToRetry(_ context.Context, limit int) (states []gateway.EndpointState, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for instance, row := range s.rows {
		if len(states) < limit && !row.due.IsZero() && !row.due.After(time.Now()) {
			states = append(states, row.EndpointState)
			row.due = time.Now().Add(2 * time.Minute)
			s.rows[instance] = row
		}
	}
	return states, nil
}

func (s *fakeStore) RemoveEndpoint(
	_ context.Context, _, instance string, _ adapters.Channel, _ identity.Actor,
) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, instance)
	return nil
}

// A providerFunc is what a fakeProvider does in a call.
type providerFunc = func(context.Context, adapters.Endpoint) error

// A fakeProvider is a Configurer whose results the test defines. It records the calls.
type fakeProvider struct {
	adapters.Adapter
	channel adapters.Channel

	mu                         sync.Mutex
	check, connect, disconnect providerFunc
	calls                      []string
	last                       adapters.Endpoint
}

// set replaces a function of p. It may be called while p is in use.
func (p *fakeProvider) set(call *providerFunc, f providerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*call = f
}

func (p *fakeProvider) Check(ctx context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	err := p.call(ctx, "check", ep, &p.check)
	ep.Address, ep.Settings = "bot 7", map[string]string{adapters.BotUsername: "acme_bot"}
	return ep, err
}

func (p *fakeProvider) Connect(ctx context.Context, ep adapters.Endpoint) error {
	return p.call(ctx, "connect", ep, &p.connect)
}

func (p *fakeProvider) Disconnect(ctx context.Context, ep adapters.Endpoint) error {
	return p.call(ctx, "disconnect", ep, &p.disconnect)
}

func (p *fakeProvider) call(ctx context.Context, name string, ep adapters.Endpoint, call *providerFunc) error {
	p.mu.Lock()
	p.calls, p.last = append(p.calls, name), ep
	f := *call
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, ep)
}

func (p *fakeProvider) callLog() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, " ")
}

func (p *fakeProvider) lastEndpoint() adapters.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

var tokenCredentials = adapters.Credentials{adapters.BotToken: "7:token"}

func failWith(reason adapters.Reason) providerFunc {
	return func(context.Context, adapters.Endpoint) error {
		message := "The provider reports " + string(reason) + "."
		return &adapters.SetupError{Reason: reason, Field: adapters.BotToken, Message: message}
	}
}

// hang does not respond until ctx ends.
func hang(ctx context.Context, _ adapters.Endpoint) error {
	<-ctx.Done()
	return &adapters.SetupError{Reason: adapters.Unreachable, Message: "no response"}
}

func newManager(p *fakeProvider) (*Manager, *fakeStore) {
	s := &fakeStore{rows: map[string]endpointRow{}}
	return &Manager{
		Adapters: map[adapters.Channel]adapters.Adapter{p.channel: p}, Store: s, PublicURL: "https://gate.example.com/",
	}, s
}

// runManager calls m.Run until the returned function is called. That function waits for Run to return.
func runManager(t *testing.T, m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func newConfig(instance string, channel adapters.Channel, creds adapters.Credentials) gateway.EndpointConfig {
	return gateway.EndpointConfig{
		TenantID: "t", InstanceID: instance, Channel: channel, Credentials: creds, Actor: "key:k",
	}
}

// configure sets up the endpoint of instance i on the channel of m's only adapter.
func configure(t *testing.T, m *Manager, creds adapters.Credentials) (gateway.EndpointState, error) {
	t.Helper()
	channels := slices.Collect(maps.Keys(m.Adapters))
	return m.Configure(t.Context(), newConfig("i", channels[0], creds))
}

// mustConfigure is like configure, and fails the test if there is an error.
func mustConfigure(t *testing.T, m *Manager, creds adapters.Credentials) gateway.EndpointState {
	t.Helper()
	state, err := configure(t, m, creds)
	if err != nil {
		t.Fatalf("Configure() = %v, want nil", err)
	}
	return state
}
