package endpoints

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// Store is what Channels keeps seats in. Credentials are sealed there.
type Store interface {
	// Seat gives an instance's seat on a channel; ErrNoInstance, ErrNoEndpoint.
	EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error)
	// Seats gives all seats of an instance; ErrNoInstance.
	EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error)
	// EndpointForHook gives the endpoint that a request in public is for; ErrNoEndpoint.
	WebhookEndpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// SaveSeat keeps a seat, one for each instance and channel, due again at retryAt
	// (zero: never). It gives it with its id and the credentials that are good now.
	SaveEndpoint(ctx context.Context, s gateway.EndpointState, retryAt time.Time, by identity.Actor) (gateway.EndpointState, error)
	// MarkSeat keeps what became of a seat that was saved at s.UpdatedAt. One that was
	// saved again since keeps what it has, is due at once and counts as saved again; one
	// that was removed stays so: kept is false.
	SetEndpointStatus(ctx context.Context, s gateway.EndpointState, retryAt time.Time) (kept bool, err error)
	// SeatsToRetry gives seats that are due, each to one caller for two minutes.
	EndpointsToRetry(ctx context.Context, limit int) ([]gateway.EndpointState, error)
	// RemoveSeat removes a seat with its credentials; ErrNoEndpoint.
	RemoveEndpoint(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error
}

// Manager sets the channels of instances up: it checks credentials with the
// provider, keeps them, and points the provider here. What a provider does not answer
// is tried again in the background (Run). It must not be copied after first use.
type Manager struct {
	Adapters  map[adapters.Channel]adapters.Adapter
	Store     Store
	PublicURL string           // origin that providers call
	Log       *slog.Logger     // nil: nowhere
	Now       func() time.Time // nil: time.Now

	mu         sync.Mutex
	cache      map[cacheKey]cacheEntry
	generation int64 // counts Forget: what was read before is not kept after
	group      singleflight.Group
}

const (
	providerTimeout   = 30 * time.Second // the longest wait for one answer of a provider
	disconnectTimeout = 10 * time.Second // the same when a channel is removed
	storeTimeout      = 10 * time.Second
	maxErrorMessage   = 500 // bytes of a provider's reason
)

// Configure gives an instance a seat on a channel, or changes the one it has: the
// same twice is once. What the provider refuses is returned as *adapters.SetupError;
// refused credentials are not kept. What the provider does not answer leaves the seat
// Faulty, with a message, to be tried again. ErrNoInstance, ErrNoEndpoint for a
// channel that nobody speaks here.
//
// A secret that the provider signs with, and that is replaced, stays good for a while
// after the provider was told of the new one: for overlap, or as is usual on the
// channel when there is none. Zero ends it at once, and any that was replaced before.
func (c *Manager) Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error) {
	if c.Adapters[cfg.Channel] == nil {
		return gateway.EndpointState{}, gateway.ErrNoEndpoint
	}
	was, err := c.Store.EndpointState(ctx, cfg.TenantID, cfg.InstanceID, cfg.Channel)
	if err != nil && !errors.Is(err, gateway.ErrNoEndpoint) {
		return gateway.EndpointState{}, err
	}
	seat := gateway.EndpointState{GracePeriod: cfg.GracePeriod, Endpoint: adapters.Endpoint{
		ID: was.ID, TenantID: cfg.TenantID, InstanceID: cfg.InstanceID, Channel: cfg.Channel,
		Mode: cmp.Or(cfg.Mode, adapters.Webhook), Address: cfg.Address, Credentials: maps.Clone(cfg.Credentials),
	}}
	if err := c.fillDefaults(&seat, was); err != nil {
		return gateway.EndpointState{}, err
	}
	checked, err := c.checkCredentials(ctx, seat)
	if ctx.Err() != nil {
		return gateway.EndpointState{}, ctx.Err()
	}
	if err != nil {
		return c.saveUnreachable(ctx, seat, err, cfg.Actor)
	}
	checked.Status, checked.ErrorMessage = gateway.EndpointError, "Being set up."
	kept, err := c.save(ctx, checked, c.now().Add(2*providerTimeout), cfg.Actor)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	// From here on it is kept, so a caller who went away does not leave it half done.
	return c.connect(context.WithoutCancel(ctx), kept)
}

// fillDefaults adds what the caller does not bring: a new webhook secret where the gateway sets it, and
// what is known of the same credentials.
func (c *Manager) fillDefaults(seat *gateway.EndpointState, was gateway.EndpointState) error {
	same := was.ID != "" && sameCredentials(seat.Credentials, was.Credentials)
	if same && seat.Address == "" {
		seat.Address, seat.Settings = was.Address, maps.Clone(was.Settings)
	}
	if !adapters.TraitsOf(seat.Channel).SecretSetByGateway {
		return nil
	}
	if seat.Credentials == nil {
		return &adapters.SetupError{Reason: adapters.Refused, Field: adapters.BotToken, Message: "A bot token is needed."}
	}
	seat.Credentials[adapters.WebhookSecret] = newWebhookSecret()
	return nil
}

// sameCredentials reports whether everything a was given is in b.
func sameCredentials(a, b adapters.Credentials) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) > 0
}

// newWebhookSecret makes a secret of the signs that Telegram allows.
func newWebhookSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// saveUnreachable keeps a seat whose provider does not answer; what it refuses is not
// kept.
func (c *Manager) saveUnreachable(ctx context.Context, seat gateway.EndpointState, refused error, by identity.Actor) (gateway.EndpointState, error) {
	seat, retryAt := c.applyResult(seat, refused)
	if retryAt.IsZero() {
		return gateway.EndpointState{}, refused
	}
	kept, err := c.save(ctx, seat, retryAt, by)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	c.logSetup(ctx, kept, refused)
	return kept, nil
}

func (c *Manager) save(ctx context.Context, seat gateway.EndpointState, retryAt time.Time, by identity.Actor) (gateway.EndpointState, error) {
	kept, err := c.Store.SaveEndpoint(ctx, seat, retryAt, by)
	c.Invalidate(seat.InstanceID, seat.Channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	return c.withURL(kept), nil
}

// checkCredentials asks the provider about the credentials and gives the seat with what it told.
func (c *Manager) checkCredentials(ctx context.Context, seat gateway.EndpointState) (gateway.EndpointState, error) {
	seat = c.withURL(seat)
	p, ok := c.Adapters[seat.Channel].(adapters.Configurer)
	if !ok {
		return seat, nil
	}
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	told, err := p.Check(ctx, seat.Endpoint)
	if err != nil {
		return seat, redactSecrets(err, seat.Credentials)
	}
	seat.Address, seat.Settings = told.Address, told.Settings
	return seat, nil
}

// connect points the provider at a seat that is kept, and keeps what came of it. A
// failure that is only the end of ctx says nothing: the seat stays due.
func (c *Manager) connect(ctx context.Context, seat gateway.EndpointState) (gateway.EndpointState, error) {
	var refused error
	if p, ok := c.Adapters[seat.Channel].(adapters.Configurer); ok {
		within, cancel := context.WithTimeout(ctx, providerTimeout)
		refused = redactSecrets(p.Connect(within, seat.Endpoint), seat.Credentials)
		cancel()
	}
	if refused != nil && ctx.Err() != nil {
		return gateway.EndpointState{}, ctx.Err()
	}
	return c.saveStatus(ctx, seat, refused)
}

// saveStatus keeps what became of a seat. It gives refused back when trying again is
// senseless.
func (c *Manager) saveStatus(ctx context.Context, seat gateway.EndpointState, refused error) (gateway.EndpointState, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	seat, retryAt := c.applyResult(seat, refused)
	kept, err := c.Store.SetEndpointStatus(ctx, seat, retryAt)
	c.Invalidate(seat.InstanceID, seat.Channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	if !kept {
		return c.resolveConflict(ctx, seat)
	}
	c.logSetup(ctx, seat, refused)
	if refused != nil && retryAt.IsZero() {
		return seat, refused
	}
	return seat, nil
}

// resolveConflict gives what a seat became while it was set up. One that was removed must
// not leave its provider pointing here.
func (c *Manager) resolveConflict(ctx context.Context, seat gateway.EndpointState) (gateway.EndpointState, error) {
	now, err := c.EndpointState(ctx, seat.TenantID, seat.InstanceID, seat.Channel)
	if errors.Is(err, gateway.ErrNoEndpoint) || errors.Is(err, gateway.ErrNoInstance) {
		c.disconnect(ctx, seat)
	}
	return now, err
}

// applyResult says what err makes of a seat, and when to try again (zero: never).
func (c *Manager) applyResult(seat gateway.EndpointState, err error) (gateway.EndpointState, time.Time) {
	if err == nil {
		seat.Status, seat.ErrorMessage, seat.Retries = gateway.EndpointActive, "", 0
		return seat, time.Time{}
	}
	seat.Status, seat.ErrorMessage = gateway.EndpointError, "The provider does not answer."
	var se *adapters.SetupError
	if errors.As(err, &se) {
		if m := strings.TrimSpace(adapters.Sanitize(se.Message, maxErrorMessage)); m != "" {
			seat.ErrorMessage = m
		}
		if !se.Retryable() {
			return seat, time.Time{}
		}
	}
	retryAt := c.now().Add(gateway.SetupBackoff().Delay(seat.Retries, 0))
	seat.Retries++
	return seat, retryAt
}

func (c *Manager) logSetup(ctx context.Context, seat gateway.EndpointState, err error) {
	level, reason := slog.LevelInfo, ""
	var se *adapters.SetupError
	if errors.As(err, &se) {
		level, reason = slog.LevelWarn, string(se.Reason)
	}
	c.log().Log(ctx, level, "channel set up", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel),
		"status", string(seat.Status), "reason", reason, "retries", seat.Retries)
}

// EndpointState gives an instance's seat on a channel; ErrNoInstance, ErrNoEndpoint.
func (c *Manager) EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error) {
	seat, err := c.Store.EndpointState(ctx, tenant, instance, channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	return c.withURL(seat), nil
}

// EndpointStates gives all seats of an instance; ErrNoInstance.
func (c *Manager) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	seats, err := c.Store.EndpointStates(ctx, tenant, instance)
	for i := range seats {
		seats[i] = c.withURL(seats[i])
	}
	return seats, err
}

// Remove takes a channel from an instance: the provider is told, if it answers in
// time, and the endpoint goes with its credentials. ErrNoInstance, ErrNoEndpoint.
func (c *Manager) Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error {
	seat, err := c.EndpointState(ctx, tenant, instance, channel)
	if err != nil {
		return err
	}
	c.disconnect(ctx, seat)
	err = c.Store.RemoveEndpoint(ctx, tenant, instance, channel, by)
	c.Invalidate(instance, channel)
	return err
}

func (c *Manager) disconnect(ctx context.Context, seat gateway.EndpointState) {
	p, ok := c.Adapters[seat.Channel].(adapters.Configurer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, disconnectTimeout)
	defer cancel()
	if err := p.Disconnect(ctx, seat.Endpoint); err != nil {
		reason := ""
		var se *adapters.SetupError
		if errors.As(err, &se) {
			reason = string(se.Reason)
		}
		c.log().WarnContext(ctx, "channel removed without its provider", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "reason", reason)
	}
}

// WebhookURL gives the public URL of an endpoint's main hook, below which its other
// hooks lie.
func (c *Manager) WebhookURL(channel adapters.Channel, instance string) string {
	return fmt.Sprintf("%s/hooks/%s/%s", strings.TrimRight(c.PublicURL, "/"), channel, instance)
}

func (c *Manager) withURL(seat gateway.EndpointState) gateway.EndpointState {
	seat.WebhookURL = c.WebhookURL(seat.Channel, seat.InstanceID)
	return seat
}

func (c *Manager) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Manager) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}
