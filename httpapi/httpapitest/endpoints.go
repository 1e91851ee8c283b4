package httpapitest

import (
	"cmp"
	"context"
	"sync"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// Endpoints is an httpapi.EndpointManager whose providers accept everything.
type Endpoints struct {
	Store       *Store
	States      []gateway.EndpointState // in the order of their set-up
	Credentials adapters.Credentials    // of the last call of Configure
	Err         error                   // returned by Configure if not nil

	mu sync.Mutex
}

// Configure implements httpapi.EndpointManager.
func (c *Endpoints) Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error) {
	if _, err := c.Store.Instance(ctx, cfg.TenantID, cfg.InstanceID); err != nil || c.Err != nil {
		return gateway.EndpointState{}, cmp.Or(c.Err, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Credentials = cfg.Credentials
	s := gateway.EndpointState{Status: gateway.EndpointActive, Endpoint: adapters.Endpoint{
		TenantID: cfg.TenantID, InstanceID: cfg.InstanceID, Channel: cfg.Channel, Mode: cfg.Mode, Address: cfg.Address,
		WebhookURL: "https://gate.example.com/hooks/" + string(cfg.Channel) + "/" + cfg.InstanceID,
		Settings: map[string]string{
			adapters.BotUsername: "acme_bot", adapters.BotUserID: "U023BECGF", adapters.TeamName: "Acme",
		},
	}}
	c.States = append(c.States, s)
	return s, nil
}

// EndpointState implements httpapi.EndpointManager.
func (c *Endpoints) EndpointState(
	ctx context.Context, tenant, instance string, channel adapters.Channel,
) (gateway.EndpointState, error) {
	states, err := c.EndpointStates(ctx, tenant, instance)
	for _, s := range states {
		if s.Channel == channel {
			return s, nil
		}
	}
	return gateway.EndpointState{}, cmp.Or(err, gateway.ErrNoEndpoint)
}

// EndpointStates implements httpapi.EndpointManager.
func (c *Endpoints) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	if _, err := c.Store.Instance(ctx, tenant, instance); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return filterRows(c.States, 10, func(s gateway.EndpointState) bool { return s.InstanceID == instance }), nil
}

// Remove implements httpapi.EndpointManager.
func (c *Endpoints) Remove(
	ctx context.Context, tenant, instance string, channel adapters.Channel, _ identity.Actor,
) error {
	if _, err := c.EndpointState(ctx, tenant, instance, channel); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.States = nil
	return nil
}
