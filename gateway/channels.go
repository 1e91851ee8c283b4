package gateway

import (
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
	"hydragate/identity"
)

// SeatStore is what Channels keeps seats in. Credentials are sealed there.
type SeatStore interface {
	// Seat gives an instance's seat on a channel; ErrNoInstance, ErrNoEndpoint.
	Seat(ctx context.Context, tenant, instance string, channel adapters.Channel) (Seat, error)
	// Seats gives all seats of an instance; ErrNoInstance.
	Seats(ctx context.Context, tenant, instance string) ([]Seat, error)
	// EndpointForHook gives the endpoint that a request in public is for; ErrNoEndpoint.
	EndpointForHook(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// SaveSeat keeps a seat, one for each instance and channel, due again at retryAt
	// (zero: never). It gives it with its id and the credentials that are good now.
	SaveSeat(ctx context.Context, s Seat, retryAt time.Time, by identity.Actor) (Seat, error)
	// MarkSeat keeps what became of a seat that was saved at s.UpdatedAt. One that was
	// saved again since keeps what it has, is due at once and counts as saved again; one
	// that was removed stays so: kept is false.
	MarkSeat(ctx context.Context, s Seat, retryAt time.Time) (kept bool, err error)
	// SeatsToRetry gives seats that are due, each to one caller for two minutes.
	SeatsToRetry(ctx context.Context, limit int) ([]Seat, error)
	// RemoveSeat removes a seat with its credentials; ErrNoEndpoint.
	RemoveSeat(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error
}

// Channels sets the channels of instances up: it checks credentials with the
// provider, keeps them, and points the provider here. What a provider does not answer
// is tried again in the background (Run). It must not be copied after first use.
type Channels struct {
	Adapters  map[adapters.Channel]adapters.Adapter
	Store     SeatStore
	PublicURL string           // origin that providers call
	Log       *slog.Logger     // nil: nowhere
	Now       func() time.Time // nil: time.Now

	mu     sync.Mutex
	cache  map[seatKey]cachedSeat
	turned int64 // counts Forget: what was read before is not kept after
	group  singleflight.Group
}

const (
	providerTime = 30 * time.Second // the longest wait for one answer of a provider
	goodbyeTime  = 10 * time.Second // the same when a channel is removed
	storeTime    = 10 * time.Second
	maxMessage   = 500 // bytes of a provider's reason
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
func (c *Channels) Configure(ctx context.Context, tenant, instance string, channel adapters.Channel, mode adapters.Mode, creds adapters.Credentials, address string, by identity.Actor, overlap ...time.Duration) (Seat, error) {
	if c.Adapters[channel] == nil {
		return Seat{}, ErrNoEndpoint
	}
	was, err := c.Store.Seat(ctx, tenant, instance, channel)
	if err != nil && !errors.Is(err, ErrNoEndpoint) {
		return Seat{}, err
	}
	seat := Seat{Endpoint: adapters.Endpoint{
		ID: was.ID, TenantID: tenant, InstanceID: instance, Channel: channel, Mode: mode, Address: address, Credentials: maps.Clone(creds),
	}}
	if mode == "" {
		seat.Mode = adapters.Webhook
	}
	if len(overlap) > 0 {
		seat.Overlap = &overlap[0]
	}
	if err := c.complete(&seat, was); err != nil {
		return Seat{}, err
	}
	checked, err := c.check(ctx, seat)
	if ctx.Err() != nil {
		return Seat{}, ctx.Err()
	}
	if err != nil {
		return c.keepUnchecked(ctx, seat, err, by)
	}
	checked.Status, checked.ErrorMessage = Faulty, "Being set up."
	kept, err := c.save(ctx, checked, c.now().Add(2*providerTime), by)
	if err != nil {
		return Seat{}, err
	}
	// From here on it is kept, so a caller who went away does not leave it half done.
	return c.connect(context.WithoutCancel(ctx), kept)
}

// complete adds what the caller does not bring: a new webhook secret for Telegram, and
// what is known of the same credentials.
func (c *Channels) complete(seat *Seat, was Seat) error {
	same := was.ID != "" && sameAccount(seat.Credentials, was.Credentials)
	if same && seat.Address == "" {
		seat.Address, seat.Settings = was.Address, maps.Clone(was.Settings)
	}
	if seat.Channel != adapters.Telegram {
		return nil
	}
	if seat.Credentials == nil {
		return &adapters.SetupError{Reason: adapters.Refused, Field: adapters.BotToken, Message: "A bot token is needed."}
	}
	seat.Credentials[adapters.WebhookSecret] = newWebhookSecret()
	return nil
}

// sameAccount reports whether everything a was given is in b.
func sameAccount(a, b adapters.Credentials) bool {
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

// keepUnchecked keeps a seat whose provider does not answer; what it refuses is not
// kept.
func (c *Channels) keepUnchecked(ctx context.Context, seat Seat, refused error, by identity.Actor) (Seat, error) {
	seat, retryAt := c.outcome(seat, refused)
	if retryAt.IsZero() {
		return Seat{}, refused
	}
	kept, err := c.save(ctx, seat, retryAt, by)
	if err != nil {
		return Seat{}, err
	}
	c.tell(ctx, kept, refused)
	return kept, nil
}

func (c *Channels) save(ctx context.Context, seat Seat, retryAt time.Time, by identity.Actor) (Seat, error) {
	kept, err := c.Store.SaveSeat(ctx, seat, retryAt, by)
	c.Forget(seat.InstanceID, seat.Channel)
	if err != nil {
		return Seat{}, err
	}
	return c.withURL(kept), nil
}

// check asks the provider about the credentials and gives the seat with what it told.
func (c *Channels) check(ctx context.Context, seat Seat) (Seat, error) {
	seat = c.withURL(seat)
	p, ok := c.Adapters[seat.Channel].(adapters.Configurer)
	if !ok {
		return seat, nil
	}
	ctx, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	told, err := p.Check(ctx, seat.Endpoint)
	if err != nil {
		return seat, discreet(err, seat.Credentials)
	}
	seat.Address, seat.Settings = told.Address, told.Settings
	return seat, nil
}

// connect points the provider at a seat that is kept, and keeps what came of it. A
// failure that is only the end of ctx says nothing: the seat stays due.
func (c *Channels) connect(ctx context.Context, seat Seat) (Seat, error) {
	var refused error
	if p, ok := c.Adapters[seat.Channel].(adapters.Configurer); ok {
		within, cancel := context.WithTimeout(ctx, providerTime)
		refused = discreet(p.Connect(within, seat.Endpoint), seat.Credentials)
		cancel()
	}
	if refused != nil && ctx.Err() != nil {
		return Seat{}, ctx.Err()
	}
	return c.mark(ctx, seat, refused)
}

// mark keeps what became of a seat. It gives refused back when trying again is
// senseless.
func (c *Channels) mark(ctx context.Context, seat Seat, refused error) (Seat, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	seat, retryAt := c.outcome(seat, refused)
	kept, err := c.Store.MarkSeat(ctx, seat, retryAt)
	c.Forget(seat.InstanceID, seat.Channel)
	if err != nil {
		return Seat{}, err
	}
	if !kept {
		return c.overtaken(ctx, seat)
	}
	c.tell(ctx, seat, refused)
	if refused != nil && retryAt.IsZero() {
		return seat, refused
	}
	return seat, nil
}

// overtaken gives what a seat became while it was set up. One that was removed must
// not leave its provider pointing here.
func (c *Channels) overtaken(ctx context.Context, seat Seat) (Seat, error) {
	now, err := c.Seat(ctx, seat.TenantID, seat.InstanceID, seat.Channel)
	if errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrNoInstance) {
		c.disconnect(ctx, seat)
	}
	return now, err
}

// outcome says what err makes of a seat, and when to try again (zero: never).
func (c *Channels) outcome(seat Seat, err error) (Seat, time.Time) {
	if err == nil {
		seat.Status, seat.ErrorMessage, seat.Retries = Active, "", 0
		return seat, time.Time{}
	}
	seat.Status, seat.ErrorMessage = Faulty, "The provider does not answer."
	var se *adapters.SetupError
	if errors.As(err, &se) {
		if m := strings.TrimSpace(adapters.Clean(se.Message, maxMessage)); m != "" {
			seat.ErrorMessage = m
		}
		if !se.Again() {
			return seat, time.Time{}
		}
	}
	retryAt := c.now().Add(backoff(seat.Retries))
	seat.Retries++
	return seat, retryAt
}

func (c *Channels) tell(ctx context.Context, seat Seat, err error) {
	level, reason := slog.LevelInfo, ""
	var se *adapters.SetupError
	if errors.As(err, &se) {
		level, reason = slog.LevelWarn, string(se.Reason)
	}
	c.log().Log(ctx, level, "channel set up", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel),
		"status", string(seat.Status), "reason", reason, "retries", seat.Retries)
}

// Seat gives an instance's seat on a channel; ErrNoInstance, ErrNoEndpoint.
func (c *Channels) Seat(ctx context.Context, tenant, instance string, channel adapters.Channel) (Seat, error) {
	seat, err := c.Store.Seat(ctx, tenant, instance, channel)
	if err != nil {
		return Seat{}, err
	}
	return c.withURL(seat), nil
}

// Seats gives all seats of an instance; ErrNoInstance.
func (c *Channels) Seats(ctx context.Context, tenant, instance string) ([]Seat, error) {
	seats, err := c.Store.Seats(ctx, tenant, instance)
	for i := range seats {
		seats[i] = c.withURL(seats[i])
	}
	return seats, err
}

// Remove takes a channel from an instance: the provider is told, if it answers in
// time, and the endpoint goes with its credentials. ErrNoInstance, ErrNoEndpoint.
func (c *Channels) Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error {
	seat, err := c.Seat(ctx, tenant, instance, channel)
	if err != nil {
		return err
	}
	c.disconnect(ctx, seat)
	err = c.Store.RemoveSeat(ctx, tenant, instance, channel, by)
	c.Forget(instance, channel)
	return err
}

func (c *Channels) disconnect(ctx context.Context, seat Seat) {
	p, ok := c.Adapters[seat.Channel].(adapters.Configurer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
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
func (c *Channels) WebhookURL(channel adapters.Channel, instance string) string {
	return fmt.Sprintf("%s/hooks/%s/%s", strings.TrimRight(c.PublicURL, "/"), channel, instance)
}

func (c *Channels) withURL(seat Seat) Seat {
	seat.WebhookURL = c.WebhookURL(seat.Channel, seat.InstanceID)
	return seat
}

func (c *Channels) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Channels) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}
