package endpoints

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

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
