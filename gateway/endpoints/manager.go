// Package endpoints sets up the endpoints of instances, retries set-ups that failed temporarily and
// caches endpoints for webhooks and replies. How a provider is configured is up to its adapter.
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

// A Store stores endpoints. It encrypts their credentials.
type Store interface {
	// EndpointState returns the endpoint of an instance on a channel. It returns
	// gateway.ErrNoInstance or gateway.ErrNoEndpoint if there is none.
	EndpointState(
		ctx context.Context, tenant, instance string, channel adapters.Channel,
	) (gateway.EndpointState, error)
	// EndpointStates returns all endpoints of an instance. It returns gateway.ErrNoInstance if
	// there is no such instance.
	EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error)
	// WebhookEndpoint returns the endpoint that a webhook request addresses. It returns
	// gateway.ErrNoEndpoint if there is none.
	WebhookEndpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// SaveEndpoint creates or replaces the endpoint of an instance on a channel. Its set-up is to be
	// retried at retryAt, or never if that is zero. SaveEndpoint returns the endpoint with its ID and
	// all valid credentials. If s.Checked is set, the endpoint becomes the owner of its addresses; if
	// another endpoint owns one, SaveEndpoint stores nothing and returns a *gateway.AddressTakenError.
	SaveEndpoint(
		ctx context.Context, s gateway.EndpointState, retryAt time.Time, by identity.Actor,
	) (gateway.EndpointState, error)
	// SetEndpointStatus stores the result of setting up the endpoint as it was saved at
	// s.UpdatedAt. If the endpoint has been saved again or removed since, it returns false and does
	// not store the result; an endpoint that was saved again is then due for another set-up.
	SetEndpointStatus(ctx context.Context, s gateway.EndpointState, retryAt time.Time) (stored bool, err error)
	// ClaimAddresses makes the endpoint as it was saved at s.UpdatedAt the owner of its addresses. If
	// another endpoint owns one, it disables the endpoint and returns a *gateway.AddressTakenError. It
	// returns false if the endpoint has been saved again, disabled or removed since.
	ClaimAddresses(ctx context.Context, s gateway.EndpointState) (ok bool, err error)
	// EndpointsToRetry returns at most limit endpoints whose set-up is to be retried now. Each is
	// returned to one caller within two minutes.
	EndpointsToRetry(ctx context.Context, limit int) ([]gateway.EndpointState, error)
	// RemoveEndpoint deletes an endpoint and its credentials. It returns gateway.ErrNoEndpoint if
	// there is none.
	RemoveEndpoint(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error
}

// A Manager sets up the endpoints of instances: it checks the credentials with the provider, stores
// them and configures the provider to call the gateway. Run retries set-ups that failed temporarily, and
// asks the providers periodically whether the endpoints work.
// A Manager must not be copied after first use.
type Manager struct {
	Adapters map[adapters.Channel]adapters.Adapter
	Store    Store
	Checks   CheckStore // nil: endpoints are not checked after their set-up
	// CheckInterval is the time between checks of an endpoint that works. The default is
	// DefaultCheckInterval.
	CheckInterval time.Duration
	Metrics       *Metrics         // nil: not measured
	PublicURL     string           // origin of the webhook URLs
	Log           *slog.Logger     // nil: no logs
	Now           func() time.Time // nil: time.Now

	mu         sync.Mutex
	cache      map[cacheKey]cacheEntry
	notices    map[string]time.Time // when a notice was stored last
	wake       chan struct{}        // receives when a check is due
	generation int64                // incremented by Invalidate; results read under an older one are not cached
	group      singleflight.Group
}

const (
	providerTimeout   = 30 * time.Second // for one call to a provider
	disconnectTimeout = 10 * time.Second // for the call that removes an endpoint
	storeTimeout      = 10 * time.Second
	maxErrorMessage   = 500 // bytes of a provider's error message
)

// Configure sets up the endpoint of an instance on a channel, or changes it. Repeated calls have the
// same result as one.
//
// If the provider rejects the credentials, Configure returns an *adapters.SetupError and stores
// nothing. If the provider rejects only the webhook, the error is returned and stored. If the provider
// does not respond, the returned endpoint has status gateway.EndpointError and a message, and its
// set-up is retried by Run. Configure returns gateway.ErrNoInstance for an unknown instance and
// gateway.ErrNoEndpoint for a channel without an adapter.
//
// If another endpoint of the deployment owns the address that the provider reports, Configure returns
// a *gateway.AddressTakenError and changes nothing, neither stored nor at the provider.
//
// The grace period of a replaced signing secret begins when the provider has the new one.
func (m *Manager) Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error) {
	if m.Adapters[cfg.Channel] == nil {
		return gateway.EndpointState{}, gateway.ErrNoEndpoint
	}
	old, err := m.Store.EndpointState(ctx, cfg.TenantID, cfg.InstanceID, cfg.Channel)
	if err != nil && !errors.Is(err, gateway.ErrNoEndpoint) {
		return gateway.EndpointState{}, err
	}
	state := gateway.EndpointState{GracePeriod: cfg.GracePeriod, Endpoint: adapters.Endpoint{
		ID: old.ID, TenantID: cfg.TenantID, InstanceID: cfg.InstanceID, Channel: cfg.Channel,
		Mode: cmp.Or(cfg.Mode, adapters.Webhook), Address: cfg.Address, Credentials: maps.Clone(cfg.Credentials),
	}}
	if err := fillDefaults(&state, old); err != nil {
		return gateway.EndpointState{}, err
	}
	checked, err := m.checkCredentials(ctx, state)
	if ctx.Err() != nil {
		return gateway.EndpointState{}, ctx.Err()
	}
	if err != nil {
		return m.saveUnreachable(ctx, state, err, cfg.Actor)
	}
	checked.Status, checked.ErrorMessage, checked.Checked = gateway.EndpointError, "Set-up in progress.", true
	saved, err := m.save(ctx, checked, m.now().Add(2*providerTimeout), cfg.Actor)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	// The endpoint is stored: the set-up must be completed even if the caller cancels.
	ctx = context.WithoutCancel(ctx)
	if old.ID != "" && old.Err == nil && old.Address != "" && old.Address != saved.Address {
		m.disconnect(ctx, m.withURL(old)) // otherwise, the provider calls the webhook for the previous address
	}
	return m.connect(ctx, saved)
}

// fillDefaults sets what the configuration leaves open: the address and settings that are known for
// the same credentials, and a new webhook secret if the gateway chooses the secrets of the channel.
func fillDefaults(state *gateway.EndpointState, old gateway.EndpointState) error {
	same := old.ID != "" && containsCredentials(old.Credentials, state.Credentials)
	if same && state.Address == "" {
		state.Address, state.Settings = old.Address, maps.Clone(old.Settings)
	}
	if !adapters.TraitsOf(state.Channel).SecretSetByGateway {
		return nil
	}
	if state.Credentials == nil {
		return &adapters.SetupError{
			Reason: adapters.Refused, Field: adapters.BotToken, Message: "A bot token is required.",
		}
	}
	state.Credentials[adapters.WebhookSecret] = newWebhookSecret()
	return nil
}

// containsCredentials reports whether all credentials in given, which are not empty, are in stored.
func containsCredentials(stored, given adapters.Credentials) bool {
	for k, v := range given {
		if stored[k] != v {
			return false
		}
	}
	return len(given) > 0
}

// newWebhookSecret returns a random secret of characters that Telegram allows.
func newWebhookSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// saveUnreachable stores an endpoint whose credentials could not be checked, for a retry. If retrying
// cannot help, it stores nothing and returns cause.
func (m *Manager) saveUnreachable(
	ctx context.Context, state gateway.EndpointState, cause error, by identity.Actor,
) (gateway.EndpointState, error) {
	state, retryAt := m.applyResult(state, cause)
	if retryAt.IsZero() {
		return gateway.EndpointState{}, cause
	}
	saved, err := m.save(ctx, state, retryAt, by)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	m.logSetup(ctx, saved, cause)
	return saved, nil
}

func (m *Manager) save(
	ctx context.Context, state gateway.EndpointState, retryAt time.Time, by identity.Actor,
) (gateway.EndpointState, error) {
	saved, err := m.Store.SaveEndpoint(ctx, state, retryAt, by)
	m.Invalidate(state.InstanceID, state.Channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	return m.withURL(saved), nil
}

// checkCredentials checks the credentials with the provider. It returns the endpoint with the address
// and settings that the provider reports.
func (m *Manager) checkCredentials(
	ctx context.Context, state gateway.EndpointState,
) (gateway.EndpointState, error) {
	state = m.withURL(state)
	configurer, ok := m.Adapters[state.Channel].(adapters.Configurer)
	if !ok {
		return state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	checked, err := configurer.Check(ctx, state.Endpoint)
	if err != nil {
		return state, redactSecrets(err, state.Credentials)
	}
	state.Address, state.Settings = checked.Address, checked.Settings
	return state, nil
}

// connect configures the provider for a stored endpoint and stores the result. It stores nothing if
// ctx ends, so that the set-up is retried.
func (m *Manager) connect(ctx context.Context, state gateway.EndpointState) (gateway.EndpointState, error) {
	var result error
	if configurer, ok := m.Adapters[state.Channel].(adapters.Configurer); ok {
		providerCtx, cancel := context.WithTimeout(ctx, providerTimeout)
		var optional *adapters.SetupError
		optional, result = splitOptional(redactSecrets(configurer.Connect(providerCtx, state.Endpoint), state.Credentials))
		cancel()
		if result == nil {
			state = withWarning(state, optional)
		}
	}
	if result != nil && ctx.Err() != nil {
		return gateway.EndpointState{}, ctx.Err()
	}
	return m.saveResult(ctx, state, result)
}

// saveResult stores the result of a set-up and returns the endpoint. It also returns result if
// retrying cannot help.
func (m *Manager) saveResult(
	ctx context.Context, state gateway.EndpointState, result error,
) (gateway.EndpointState, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	state, retryAt := m.applyResult(state, result)
	stored, err := m.Store.SetEndpointStatus(ctx, state, retryAt)
	m.Invalidate(state.InstanceID, state.Channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	if !stored {
		return m.resolveConflict(ctx, state)
	}
	m.logSetup(ctx, state, result)
	if result != nil && retryAt.IsZero() {
		return state, result
	}
	return state, nil
}

// resolveConflict returns the current state of an endpoint that was saved again or removed during its
// set-up. The provider of a removed endpoint is disconnected.
func (m *Manager) resolveConflict(
	ctx context.Context, state gateway.EndpointState,
) (gateway.EndpointState, error) {
	current, err := m.EndpointState(ctx, state.TenantID, state.InstanceID, state.Channel)
	if errors.Is(err, gateway.ErrNoEndpoint) || errors.Is(err, gateway.ErrNoInstance) {
		m.disconnect(ctx, state)
	}
	return current, err
}

// applyResult returns an endpoint with the status that results from err, and when to retry the set-up,
// or zero if it must not be retried.
func (m *Manager) applyResult(state gateway.EndpointState, err error) (gateway.EndpointState, time.Time) {
	if err == nil {
		state.Status, state.ErrorMessage, state.Retries = gateway.EndpointActive, "", 0
		return state, time.Time{}
	}
	state.Status, state.ErrorMessage = gateway.EndpointError, "The provider does not respond."
	var retryAfter time.Duration
	if se, ok := errors.AsType[*adapters.SetupError](err); ok {
		if message := strings.TrimSpace(adapters.Sanitize(se.Message, maxErrorMessage)); message != "" {
			state.ErrorMessage = message
		}
		if !se.Retryable() {
			return state, time.Time{}
		}
		retryAfter = se.RetryAfter
	}
	retryAt := m.now().Add(gateway.SetupBackoff().Delay(state.Retries, retryAfter))
	state.Retries++
	return state, retryAt
}

// logSetup logs the result of a set-up.
func (m *Manager) logSetup(ctx context.Context, state gateway.EndpointState, err error) {
	reason := ""
	if se, ok := errors.AsType[*adapters.SetupError](err); ok {
		reason = string(se.Reason)
	}
	attrs := append(logAttrs(state), "status", string(state.Status), "reason", reason, "retries", state.Retries)
	if err != nil {
		m.log().WarnContext(ctx, "set up endpoint failed", attrs...)
		return
	}
	m.log().InfoContext(ctx, "set up endpoint completed", attrs...)
}

// logAttrs returns log attributes that identify an endpoint.
func logAttrs(state gateway.EndpointState) []any {
	return []any{"tenant", state.TenantID, "instance", state.InstanceID, "channel", string(state.Channel)}
}

// EndpointState returns the endpoint of an instance on a channel. It returns gateway.ErrNoInstance or
// gateway.ErrNoEndpoint if there is none.
func (m *Manager) EndpointState(
	ctx context.Context, tenant, instance string, channel adapters.Channel,
) (gateway.EndpointState, error) {
	state, err := m.Store.EndpointState(ctx, tenant, instance, channel)
	if err != nil {
		return gateway.EndpointState{}, err
	}
	return m.withURL(state), nil
}

// EndpointStates returns all endpoints of an instance, with the latest notices among their warnings. It
// returns gateway.ErrNoInstance if there is no such instance.
func (m *Manager) EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error) {
	states, err := m.Store.EndpointStates(ctx, tenant, instance)
	if err != nil {
		return nil, err
	}
	for i := range states {
		states[i] = m.withURL(states[i])
	}
	return m.withNotices(ctx, tenant, instance, states)
}

// Remove removes the endpoint of an instance on a channel, with its credentials. It first disconnects
// the provider, but does not fail if the provider does not respond. It returns gateway.ErrNoInstance
// or gateway.ErrNoEndpoint if there is no such endpoint.
func (m *Manager) Remove(
	ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor,
) error {
	state, err := m.EndpointState(ctx, tenant, instance, channel)
	if err != nil {
		return err
	}
	m.disconnect(ctx, state)
	err = m.Store.RemoveEndpoint(ctx, tenant, instance, channel, by)
	m.Invalidate(instance, channel)
	return err
}

// disconnect asks the provider to stop calling the gateway.
func (m *Manager) disconnect(ctx context.Context, state gateway.EndpointState) {
	configurer, ok := m.Adapters[state.Channel].(adapters.Configurer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, disconnectTimeout)
	defer cancel()
	if err := configurer.Disconnect(ctx, state.Endpoint); err != nil {
		reason := ""
		if se, ok := errors.AsType[*adapters.SetupError](err); ok {
			reason = string(se.Reason)
		}
		// The error itself is not logged, because it may contain a secret.
		m.log().WarnContext(ctx, "disconnect provider failed", append(logAttrs(state), "reason", reason)...)
	}
}

// WebhookURL returns the public URL of an endpoint's main webhook. The paths of its other webhooks are
// below it.
func (m *Manager) WebhookURL(channel adapters.Channel, instance string) string {
	return fmt.Sprintf("%s/hooks/%s/%s", strings.TrimRight(m.PublicURL, "/"), channel, instance)
}

func (m *Manager) withURL(state gateway.EndpointState) gateway.EndpointState {
	state.WebhookURL = m.WebhookURL(state.Channel, state.InstanceID)
	return state
}

func (m *Manager) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (m *Manager) log() *slog.Logger {
	if m.Log != nil {
		return m.Log
	}
	return slog.New(slog.DiscardHandler)
}
