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

// fakeProvider is a Telegram adapter that can be made unavailable. It records the webhook secret that
// was set last.
type fakeProvider struct {
	mu          sync.Mutex
	unavailable bool
	secret      string
	connected   chan struct{} // receives one value for each Connect while there is room
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
	return &endpoints.Manager{
		Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: p}, Store: s,
		PublicURL: "https://gate.example.com",
	}, p
}

func telegramConfig(tenant, instance string) gateway.EndpointConfig {
	return gateway.EndpointConfig{
		TenantID: tenant, InstanceID: instance, Channel: adapters.Telegram,
		Credentials: adapters.Credentials{adapters.BotToken: "7:token"}, Actor: "key:k",
	}
}

func TestEndpointSetup(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
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
			t.Errorf("second Configure() = %v, want the same row with a new secret known to the provider, "+
				"and the previous one", err)
		}
		ep, err := c.Endpoint(t.Context(), i, adapters.Telegram)
		if err != nil || ep.Credentials[adapters.WebhookSecret] != p.currentSecret() ||
			ep.WebhookURL != "https://gate.example.com/hooks/telegram/"+i {
			t.Errorf("Endpoint(): webhook URL %q, %v", ep.WebhookURL, err)
		}
		other := newTenant(t, s)
		if _, err := c.Configure(t.Context(), telegramConfig(other, i)); !errors.Is(err, gateway.ErrNoInstance) {
			t.Errorf("Configure() by another tenant = %v, want ErrNoInstance", err)
		}
		if err := c.Remove(t.Context(), other, i, adapters.Telegram, "key:k"); !errors.Is(err, gateway.ErrNoInstance) {
			t.Errorf("Remove() by another tenant = %v, want ErrNoInstance", err)
		}
		if err := c.Remove(t.Context(), tenant, i, adapters.Telegram, "key:k"); err != nil || p.currentSecret() != "" {
			t.Errorf("Remove() = %v", err)
		}
		if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1`, tenant); n != "0" {
			t.Errorf("%s endpoints left, want 0", n)
		}
	})
}

func TestEndpointSetup_Retry(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		c, p := newEndpointService(s)
		i := newInstance(t, s, tenant).ID
		p.setAvailable(false)
		ep, err := c.Configure(t.Context(), telegramConfig(tenant, i))
		if err != nil || ep.Status != gateway.EndpointError || ep.ErrorMessage != "Telegram does not answer." ||
			ep.Retries != 1 {
			t.Fatalf("%v %q %d, %v", ep.Status, ep.ErrorMessage, ep.Retries, err)
		}
		p.setAvailable(true)
		mustExec(t, s, `update endpoints set retry_at = $2 where tenant_id = $1`, tenant, s.now())
		runUntilConnected(t, c, p)
		if ep, err = c.EndpointState(t.Context(), tenant, i, adapters.Telegram); err != nil ||
			ep.Status != gateway.EndpointActive || ep.Address != "7" || ep.Retries != 0 || ep.ErrorMessage != "" {
			t.Errorf("state after the retry: %v %q, %v", ep.Status, ep.ErrorMessage, err)
		}
	})
}

// runUntilConnected runs c until it has connected an endpoint and stored the result.
func runUntilConnected(t *testing.T, c *endpoints.Manager, p *fakeProvider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	select {
	case <-p.connected:
	case <-ctx.Done():
		t.Error("no endpoint was connected")
	}
	cancel()
	wg.Wait()
}

func TestEndpointSetup_Concurrent(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
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
		// An outdated call made the endpoint due, so that the last configuration is sent last.
		if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1 and retry_at is not null`,
			tenant); n == "1" {
			runUntilConnected(t, c, p)
		}
		ep, err := c.EndpointState(t.Context(), tenant, i, adapters.Telegram)
		if err != nil || ep.Status != gateway.EndpointActive ||
			ep.Credentials[adapters.WebhookSecret] != p.currentSecret() {
			t.Errorf("status = %v, %v, want active with the secret known to the provider", ep.Status, err)
		}
		if n := queryText(t, s, `select cast(count(*) as text) from endpoints where tenant_id = $1`, tenant); n != "1" {
			t.Errorf("%s endpoints, want 1", n)
		}
	})
}
