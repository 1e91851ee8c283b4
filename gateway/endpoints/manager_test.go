package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

var _ gateway.EndpointFinder = (*Manager)(nil)

// fakeStore is a SeatStore in memory.
type fakeStore struct {
	mu       sync.Mutex
	rows     map[cacheKey]gateway.EndpointState
	due      map[cacheKey]time.Time
	saved    int
	reads    int
	err      error
	readGate chan struct{} // when not nil, a read waits for it
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: map[cacheKey]gateway.EndpointState{}, due: map[cacheKey]time.Time{}}
}

func (s *fakeStore) EndpointState(_ context.Context, _, instance string, channel adapters.Channel) (gateway.EndpointState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if instance == "gone" {
		return gateway.EndpointState{}, gateway.ErrNoInstance
	}
	seat, ok := s.rows[cacheKey{instance, channel}]
	if !ok {
		return gateway.EndpointState{}, gateway.ErrNoEndpoint
	}
	return seat, nil
}

func (s *fakeStore) EndpointStates(_ context.Context, _, instance string) ([]gateway.EndpointState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seats []gateway.EndpointState
	for k, seat := range s.rows {
		if k.instance == instance {
			seats = append(seats, seat)
		}
	}
	return seats, nil
}

func (s *fakeStore) WebhookEndpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	s.mu.Lock()
	s.reads++
	broken, reading := s.err, s.readGate
	seat, err := s.rows[cacheKey{instance, channel}], broken
	s.mu.Unlock()
	if reading != nil {
		<-reading
	}
	if err == nil && seat.ID == "" {
		err = gateway.ErrNoEndpoint
	}
	return seat.Endpoint, err
}

func (s *fakeStore) SaveEndpoint(_ context.Context, seat gateway.EndpointState, retryAt time.Time, _ identity.Actor) (gateway.EndpointState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return gateway.EndpointState{}, s.err
	}
	k := cacheKey{seat.InstanceID, seat.Channel}
	s.saved++
	seat.ID, seat.WebhookURL, seat.UpdatedAt = "seat of "+seat.InstanceID, "", time.Unix(int64(s.saved), 0)
	s.rows[k] = seat
	s.schedule(k, retryAt)
	return seat, nil
}

func (s *fakeStore) SetEndpointStatus(_ context.Context, seat gateway.EndpointState, retryAt time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := cacheKey{seat.InstanceID, seat.Channel}
	row, ok := s.rows[k]
	if !ok || !row.UpdatedAt.Equal(seat.UpdatedAt) {
		if ok {
			s.saved++
			row.UpdatedAt = time.Unix(int64(s.saved), 0)
			s.rows[k], s.due[k] = row, time.Now()
		}
		return false, nil
	}
	row.Status, row.ErrorMessage, row.Retries, row.Address, row.Settings = seat.Status, seat.ErrorMessage, seat.Retries, seat.Address, seat.Settings
	s.rows[k] = row
	s.schedule(k, retryAt)
	return true, nil
}

func (s *fakeStore) schedule(k cacheKey, at time.Time) {
	delete(s.due, k)
	if !at.IsZero() {
		s.due[k] = at
	}
}

func (s *fakeStore) EndpointsToRetry(_ context.Context, limit int) ([]gateway.EndpointState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seats []gateway.EndpointState
	for k, at := range s.due {
		if len(seats) < limit && !at.After(time.Now()) {
			seats = append(seats, s.rows[k])
			s.due[k] = time.Now().Add(2 * time.Minute)
		}
	}
	return seats, nil
}

func (s *fakeStore) RemoveEndpoint(_ context.Context, _, instance string, channel adapters.Channel, _ identity.Actor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, cacheKey{instance, channel})
	delete(s.due, cacheKey{instance, channel})
	return nil
}

func (s *fakeStore) row(instance string) gateway.EndpointState {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, seat := range s.rows {
		if k.instance == instance {
			return seat
		}
	}
	return gateway.EndpointState{}
}

func (s *fakeStore) dueAt(instance string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, at := range s.due {
		if k.instance == instance {
			return at
		}
	}
	return time.Time{}
}

// fakeProvider is a Configurer that does what a test says, and remembers what it was
// asked.
type fakeProvider struct {
	channel adapters.Channel

	mu                         sync.Mutex
	check, connect, disconnect func(context.Context, adapters.Endpoint) error
	calls                      []string
	last                       adapters.Endpoint
}

// set makes what the provider does next, while it is being asked.
func (p *fakeProvider) set(call *func(context.Context, adapters.Endpoint) error, f func(context.Context, adapters.Endpoint) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*call = f
}

func (p *fakeProvider) Channel() adapters.Channel { return p.channel }

func (p *fakeProvider) Limits() adapters.Limits { return adapters.Limits{} }

func (p *fakeProvider) Receive(*http.Request, adapters.Endpoint, string) (adapters.Inbound, error) {
	return adapters.Inbound{}, adapters.ErrUnknownWebhook
}

func (p *fakeProvider) Send(context.Context, adapters.Endpoint, adapters.Reply) (string, error) {
	return "", &adapters.SendError{Reason: adapters.Refused}
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

func (p *fakeProvider) call(ctx context.Context, call string, ep adapters.Endpoint, does *func(context.Context, adapters.Endpoint) error) error {
	p.mu.Lock()
	p.calls, p.last = append(p.calls, call), ep
	f := *does
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

func failWith(reason adapters.Reason) func(context.Context, adapters.Endpoint) error {
	return func(context.Context, adapters.Endpoint) error {
		return &adapters.SetupError{Reason: reason, Field: adapters.BotToken, Message: "The provider says " + string(reason) + "."}
	}
}

func hang(ctx context.Context, _ adapters.Endpoint) error {
	<-ctx.Done()
	return &adapters.SetupError{Reason: adapters.Unreachable, Message: "no answer"}
}

func newManager(p *fakeProvider) (*Manager, *fakeStore) {
	s := newFakeStore()
	return &Manager{Adapters: map[adapters.Channel]adapters.Adapter{p.channel: p}, Store: s, PublicURL: "https://gate.example.com/"}, s
}

const token = "7:token"

func newConfig(instance string, channel adapters.Channel, creds adapters.Credentials) gateway.EndpointConfig {
	return gateway.EndpointConfig{TenantID: "t", InstanceID: instance, Channel: channel, Credentials: creds, Actor: "key:k"}
}

func configure(t *testing.T, c *Manager, creds adapters.Credentials) (gateway.EndpointState, error) {
	t.Helper()
	for ch := range c.Adapters {
		return c.Configure(t.Context(), newConfig("i", ch, creds))
	}
	return gateway.EndpointState{}, nil
}

func TestConfigure(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	c, s := newManager(p)
	p.connect = func(_ context.Context, ep adapters.Endpoint) error {
		if row := s.row("i"); row.ID == "" || row.Credentials[adapters.WebhookSecret] != ep.Credentials[adapters.WebhookSecret] || s.dueAt("i").IsZero() {
			t.Errorf("connected before it was kept, or not due if this process ends: %v", row)
		}
		return nil
	}
	creds := adapters.Credentials{adapters.BotToken: token}
	seat, err := configure(t, c, creds)
	if err != nil || seat.Status != gateway.EndpointActive || seat.Address != "bot 7" || seat.Settings[adapters.BotUsername] != "acme_bot" || seat.Mode != adapters.Webhook {
		t.Fatalf("%v, %v", seat.Status, err)
	}
	if seat.WebhookURL != "https://gate.example.com/hooks/telegram/i" || p.lastEndpoint().WebhookURL != seat.WebhookURL {
		t.Errorf("webhook %q", seat.WebhookURL)
	}
	secret := seat.Credentials[adapters.WebhookSecret]
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(secret) {
		t.Errorf("a webhook secret of %d signs", len(secret))
	}
	if len(creds) != 1 {
		t.Error("the caller's credentials were written to")
	}
	if !s.dueAt("i").IsZero() || s.row("i").Status != gateway.EndpointActive {
		t.Errorf("kept as %v, due at %v", s.row("i").Status, s.dueAt("i"))
	}
	if again, err := configure(t, c, creds); err != nil || again.ID != seat.ID || again.Credentials[adapters.WebhookSecret] == secret || p.lastEndpoint().Credentials[adapters.WebhookSecret] != again.Credentials[adapters.WebhookSecret] {
		t.Errorf("again: %v; want the same row and a new secret, and the provider told of it", err)
	}
	if other, err := configure(t, c, adapters.Credentials{adapters.BotToken: "8:token"}); err != nil || other.Credentials[adapters.WebhookSecret] == secret {
		t.Errorf("another bot has the secret of this one, or %v", err)
	}
	if p.callLog() != "check connect check connect check connect" {
		t.Errorf("asked %s", p.callLog())
	}
}

func TestConfigure_Refused(t *testing.T) {
	for _, reason := range []adapters.Reason{adapters.BadSecret, adapters.Refused} {
		p := &fakeProvider{channel: adapters.Slack, check: failWith(reason)}
		c, s := newManager(p)
		var se *adapters.SetupError
		if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); !errors.As(err, &se) || se.Reason != reason || se.Field != adapters.BotToken {
			t.Errorf("%s: %v; want it returned", reason, err)
		}
		if s.saved != 0 || p.callLog() != "check" {
			t.Errorf("%s: %d rows saved, asked %s", reason, s.saved, p.callLog())
		}
	}
}

func TestConfigure_RefusedAtConnect(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram, connect: failWith(adapters.Refused)}
	c, s := newManager(p)
	var se *adapters.SetupError
	seat, err := configure(t, c, adapters.Credentials{adapters.BotToken: token})
	if !errors.As(err, &se) || seat.Status != gateway.EndpointError {
		t.Errorf("%v, %v; want the refusal", seat.Status, err)
	}
	if row := s.row("i"); row.Status != gateway.EndpointError || row.ErrorMessage != "The provider says refused." || !s.dueAt("i").IsZero() {
		t.Errorf("kept: %v %q, due %v; want an error nobody retries", row.Status, row.ErrorMessage, s.dueAt("i"))
	}
}

func TestConfigure_NotFound(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	c, s := newManager(p)
	creds := adapters.Credentials{adapters.BotToken: token}
	if _, err := c.Configure(t.Context(), newConfig("gone", adapters.Telegram, creds)); !errors.Is(err, gateway.ErrNoInstance) {
		t.Errorf("unknown instance: %v", err)
	}
	if _, err := c.Configure(t.Context(), newConfig("i", adapters.SMS, creds)); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("a channel nobody speaks: %v", err)
	}
	if p.callLog() != "" {
		t.Errorf("asked %s for nothing", p.callLog())
	}
	s.err = errors.New("database away")
	if _, err := configure(t, c, creds); !errors.Is(err, s.err) || p.callLog() != "check" {
		t.Errorf("not kept: %v, asked %s; want no webhook without a row", err, p.callLog())
	}
}

func TestRun_RetriesUnreachable(t *testing.T) {
	for name, at := range map[string]func(*fakeProvider, func(context.Context, adapters.Endpoint) error){
		"Check":   func(p *fakeProvider, f func(context.Context, adapters.Endpoint) error) { p.set(&p.check, f) },
		"Connect": func(p *fakeProvider, f func(context.Context, adapters.Endpoint) error) { p.set(&p.connect, f) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakeProvider{channel: adapters.Telegram}
				ch, s := newManager(p)
				at(p, failWith(adapters.Unreachable))
				seat, err := configure(t, ch, adapters.Credentials{adapters.BotToken: token})
				if err != nil || seat.Status != gateway.EndpointError || seat.ErrorMessage != "The provider says unreachable." {
					t.Fatalf("%v %q, %v", seat.Status, seat.ErrorMessage, err)
				}
				if d := time.Until(s.dueAt("i")); d < 10*time.Second || d > 13*time.Second {
					t.Errorf("first retry in %v", d)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { ch.Run(ctx) })
				time.Sleep(time.Hour)
				if row := s.row("i"); row.Status != gateway.EndpointError || row.Retries < 6 {
					t.Errorf("after an hour: %v, %d retries", row.Status, row.Retries)
				}
				if d := time.Until(s.dueAt("i")); d > 10*time.Minute {
					t.Errorf("waits %v", d)
				}
				at(p, nil)
				time.Sleep(11 * time.Minute)
				if row := s.row("i"); row.Status != gateway.EndpointActive || row.ErrorMessage != "" || row.Retries != 0 || row.Address != "bot 7" || !s.dueAt("i").IsZero() {
					t.Errorf("when it answers: %v %q, address %q", row.Status, row.ErrorMessage, row.Address)
				}
				if !strings.HasSuffix(p.callLog(), "check connect") || p.lastEndpoint().WebhookURL == "" {
					t.Errorf("asked %s at %q", p.callLog(), p.lastEndpoint().WebhookURL)
				}
				n := p.callLog()
				time.Sleep(time.Hour)
				if p.callLog() != n {
					t.Error("asks on")
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

func TestRun_StopsRetryingWhenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram, check: failWith(adapters.Throttled)}
		c, s := newManager(p)
		if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
			t.Fatal(err)
		}
		p.check = failWith(adapters.BadSecret)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Run(ctx) })
		time.Sleep(time.Hour)
		if row := s.row("i"); row.Status != gateway.EndpointError || row.ErrorMessage != "The provider says bad_secret." || p.callLog() != "check check" {
			t.Errorf("%v %q, asked %s", row.Status, row.ErrorMessage, p.callLog())
		}
		cancel()
		wg.Wait()
	})
}

func TestRun_StopsWhileProviderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram, check: failWith(adapters.Unreachable)}
		c, s := newManager(p)
		if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
			t.Fatal(err)
		}
		p.check = hang
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		time.Sleep(20 * time.Second)
		began := time.Now()
		cancel()
		<-done
		if d := time.Since(began); d != 0 {
			t.Errorf("stopped after %v", d)
		}
		if s.dueAt("i").IsZero() {
			t.Error("the seat is not due any more, and was not set up")
		}
	})
}

func TestConfigure_Canceled(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	c, s := newManager(p)
	ctx, cancel := context.WithCancel(t.Context())
	p.connect = func(ctx context.Context, _ adapters.Endpoint) error { cancel(); return ctx.Err() }
	creds := adapters.Credentials{adapters.BotToken: token}
	if _, err := c.Configure(ctx, newConfig("i", adapters.Telegram, creds)); err != nil || s.row("i").Status != gateway.EndpointActive {
		t.Errorf("after it was kept: %v, %v; want it set up", s.row("i").Status, err)
	}
	p.check = func(ctx context.Context, ep adapters.Endpoint) error { return hang(ctx, ep) }
	if _, err := c.Configure(ctx, newConfig("j", adapters.Telegram, creds)); !errors.Is(err, context.Canceled) || s.row("j").ID != "" {
		t.Errorf("before it was kept: %v; want nothing kept", err)
	}
}

// TestConfigure_Concurrent: what was saved last is what the provider hears last.
func TestConfigure_Concurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram}
		c, s := newManager(p)
		first := true
		p.connect = func(_ context.Context, ep adapters.Endpoint) error {
			if first {
				first = false
				if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: "8:token"}); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		seat, err := configure(t, c, adapters.Credentials{adapters.BotToken: token})
		if err != nil || seat.Credentials[adapters.BotToken] != "8:token" || seat.WebhookURL == "" {
			t.Errorf("the one overtaken sees another seat than is kept, or %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Run(ctx) })
		time.Sleep(time.Minute)
		if got := p.lastEndpoint(); got.Credentials[adapters.BotToken] != "8:token" || s.row("i").Status != gateway.EndpointActive {
			t.Error("the provider heard the older word last")
		}
		cancel()
		wg.Wait()
	})
}

func TestConfigure_RemovedDuringSetup(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	c, s := newManager(p)
	p.connect = func(ctx context.Context, _ adapters.Endpoint) error {
		return s.RemoveEndpoint(ctx, "t", "i", adapters.Telegram, identity.System)
	}
	if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); !errors.Is(err, gateway.ErrNoEndpoint) || p.callLog() != "check connect disconnect" {
		t.Errorf("%v, asked %s; want the provider to forget it", err, p.callLog())
	}
}

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, disconnect := range map[string]func(context.Context, adapters.Endpoint) error{"Answers": nil, "Refuses": failWith(adapters.BadSecret), "Hangs": hang} {
			p := &fakeProvider{channel: adapters.Telegram, disconnect: disconnect}
			c, s := newManager(p)
			if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := c.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k"); err != nil || s.row("i").ID != "" {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(began); d > disconnectTimeout {
				t.Errorf("%s: took %v", name, d)
			}
			if p.lastEndpoint().WebhookURL != "https://gate.example.com/hooks/telegram/i" {
				t.Errorf("%s: disconnected %q", name, p.lastEndpoint().WebhookURL)
			}
			if err := c.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k"); !errors.Is(err, gateway.ErrNoEndpoint) {
				t.Errorf("%s, again: %v", name, err)
			}
			if _, err := c.Endpoint(t.Context(), "i", adapters.Telegram); !errors.Is(err, gateway.ErrNoEndpoint) {
				t.Errorf("%s: still there for hooks: %v", name, err)
			}
		}
	})
}

func TestConfigure_NoSecretLeaks(t *testing.T) {
	var log bytes.Buffer
	for _, fault := range []func(context.Context, adapters.Endpoint) error{nil, failWith(adapters.Unreachable), failWith(adapters.Refused)} {
		p := &fakeProvider{channel: adapters.Telegram, connect: fault, disconnect: fault}
		c, _ := newManager(p)
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		seat, err := configure(t, c, adapters.Credentials{adapters.BotToken: token})
		if err := c.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k"); err != nil {
			t.Fatal(err)
		}
		all := fmt.Sprintf("%v %+v %#v %v %s", seat, seat, seat, err, log.String())
		if strings.Contains(all, token) || strings.Contains(all, p.lastEndpoint().Credentials[adapters.WebhookSecret]) {
			t.Error("a secret is told")
		}
	}
	if n := strings.Count(log.String(), "channel set up"); n != 3 {
		t.Errorf("%d lines of three set-ups:\n%s", n, log.String())
	}
}

func TestEndpointStates_WebhookURL(t *testing.T) {
	p := &fakeProvider{channel: adapters.Slack}
	c, _ := newManager(p)
	if _, err := configure(t, c, adapters.Credentials{adapters.BotToken: token}); err != nil {
		t.Fatal(err)
	}
	seats, err := c.EndpointStates(t.Context(), "t", "i")
	if err != nil || len(seats) != 1 || seats[0].WebhookURL != "https://gate.example.com/hooks/slack/i" {
		t.Errorf("%d seats, %v", len(seats), err)
	}
	one, err := c.EndpointState(t.Context(), "t", "i", adapters.Slack)
	if err != nil || one.WebhookURL != seats[0].WebhookURL {
		t.Errorf("%q, %v", one.WebhookURL, err)
	}
}
