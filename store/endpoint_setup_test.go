package store

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
)

// fakeProvider plays Telegram: it answers or it does not, and knows the secret it was
// told last.
type fakeProvider struct {
	mu          sync.Mutex
	unavailable bool
	secret      string
	connected   chan struct{} // gets one for each Connect, when there is room
}

func (*fakeProvider) Channel() adapters.Channel { return adapters.Telegram }

func (*fakeProvider) Limits() adapters.Limits { return adapters.Limits{} }

func (*fakeProvider) Receive(*http.Request, adapters.Endpoint, string) (adapters.Inbound, error) {
	return adapters.Inbound{}, adapters.ErrUnknownWebhook
}

func (*fakeProvider) Send(context.Context, adapters.Endpoint, adapters.Reply) (string, error) {
	return "", &adapters.SendError{Reason: adapters.Refused}
}

func (p *fakeProvider) Check(_ context.Context, ep adapters.Endpoint) (adapters.Endpoint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unavailable {
		return ep, &adapters.SetupError{Reason: adapters.Unreachable, Message: "Telegram does not answer."}
	}
	ep.Address, ep.Settings = "7", map[string]string{adapters.BotUsername: "acme_bot"}
	return ep, nil
}

func (p *fakeProvider) Connect(_ context.Context, ep adapters.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secret = ep.Credentials[adapters.WebhookSecret]
	select {
	case p.connected <- struct{}{}:
	default:
	}
	return nil
}

func (p *fakeProvider) Disconnect(context.Context, adapters.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secret = ""
	return nil
}

func (p *fakeProvider) currentSecret() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.secret
}

func (p *fakeProvider) setAvailable(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unavailable = !yes
}

func newEndpointService(s *Store) (*endpoints.Manager, *fakeProvider) {
	p := &fakeProvider{connected: make(chan struct{}, 100)}
	return &endpoints.Manager{Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: p}, Store: s,
		PublicURL: "https://gate.example.com"}, p
}

func TestEndpointSetup(t *testing.T) {
	forEachEngine(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		for name, test := range map[string]func(*testing.T, *Store, string){"SetUpAndRemove": testSetupAndRemove,
			"SetUpLater": testSetupRetry, "ManyAtOnceAgree": testConcurrentSetups} {
			t.Run(name, func(t *testing.T) { test(t, s, newTenant(t, s)) })
		}
	})
}

func telegramConfig(tenant, instance string) gateway.EndpointConfig {
	return gateway.EndpointConfig{
		TenantID: tenant, InstanceID: instance, Channel: adapters.Telegram,
		Credentials: adapters.Credentials{adapters.BotToken: "7:token"}, Actor: "key:k",
	}
}

func testSetupAndRemove(t *testing.T, s *Store, tenant string) {
	c, p := newEndpointService(s)
	i := newInstance(t, s, tenant).ID
	first, err := c.Configure(t.Context(), telegramConfig(tenant, i))
	if err != nil || first.Status != gateway.EndpointActive || first.Address != "7" {
		t.Fatalf("%v, %v", first.Status, err)
	}
	again, err := c.Configure(t.Context(), telegramConfig(tenant, i))
	old := first.Credentials[adapters.WebhookSecret]
	if good := again.Current(adapters.WebhookSecret); err != nil || again.ID != first.ID || len(good) != 2 ||
		p.currentSecret() != good[0] || good[1] != old || good[0] == old {
		t.Errorf("again: %v; want the same row with a new secret that the provider knows, and the old one beside it", err)
	}
	ep, err := c.Endpoint(t.Context(), i, adapters.Telegram)
	if err != nil || ep.Credentials[adapters.WebhookSecret] != p.currentSecret() ||
		ep.WebhookURL != "https://gate.example.com/hooks/telegram/"+i {
		t.Errorf("for hooks: %q, %v", ep.WebhookURL, err)
	}
	other := newTenant(t, s)
	if _, err := c.Configure(t.Context(), telegramConfig(other, i)); !errors.Is(err, gateway.ErrNoInstance) {
		t.Errorf("by another tenant: %v", err)
	}
	if err := c.Remove(t.Context(), other, i, adapters.Telegram, "key:k"); !errors.Is(err, gateway.ErrNoInstance) {
		t.Errorf("removed by another tenant: %v", err)
	}
	if err := c.Remove(t.Context(), tenant, i, adapters.Telegram, "key:k"); err != nil || p.currentSecret() != "" {
		t.Errorf("removed: %v", err)
	}
	if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1`, tenant); n != "0" {
		t.Errorf("%s rows with credentials are left", n)
	}
}

func testSetupRetry(t *testing.T, s *Store, tenant string) {
	c, p := newEndpointService(s)
	i := newInstance(t, s, tenant).ID
	p.setAvailable(false)
	seat, err := c.Configure(t.Context(), telegramConfig(tenant, i))
	if err != nil || seat.Status != gateway.EndpointError || seat.ErrorMessage != "Telegram does not answer." ||
		seat.Retries != 1 {
		t.Fatalf("%v %q %d, %v", seat.Status, seat.ErrorMessage, seat.Retries, err)
	}
	p.setAvailable(true)
	mustExec(t, s, `update endpoints set retry_at = $2 where tenant_id = $1`, tenant, s.now())
	runUntilConnected(t, c, p)
	if seat, err = c.EndpointState(t.Context(), tenant, i, adapters.Telegram); err != nil ||
		seat.Status != gateway.EndpointActive || seat.Address != "7" || seat.Retries != 0 || seat.ErrorMessage != "" {
		t.Errorf("when it answers: %v %q, %v", seat.Status, seat.ErrorMessage, err)
	}
}

// runUntilConnected runs c until the provider was told of an endpoint and that was kept.
func runUntilConnected(t *testing.T, c *endpoints.Manager, p *fakeProvider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	select {
	case <-p.connected:
	case <-ctx.Done():
		t.Error("the provider was told nothing")
	}
	cancel()
	wg.Wait()
}

func testConcurrentSetups(t *testing.T, s *Store, tenant string) {
	c, p := newEndpointService(s)
	i := newInstance(t, s, tenant).ID
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Configure(t.Context(), telegramConfig(tenant, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for len(p.connected) > 0 {
		<-p.connected
	}
	// Who was overtaken left the endpoint due, so that the last word is told last.
	if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1 and retry_at is not null`,
		tenant); n == "1" {
		runUntilConnected(t, c, p)
	}
	seat, err := c.EndpointState(t.Context(), tenant, i, adapters.Telegram)
	if err != nil || seat.Status != gateway.EndpointActive ||
		seat.Credentials[adapters.WebhookSecret] != p.currentSecret() {
		t.Errorf("%v, %v; want the provider to know the secret that is kept", seat.Status, err)
	}
	if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1`, tenant); n != "1" {
		t.Errorf("%s rows; want one", n)
	}
}
