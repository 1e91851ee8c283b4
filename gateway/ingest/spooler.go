package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/ingest/spool"
)

// A Spooler writes messages of channels whose provider does not retry to disk while the database
// is unavailable, and stores them in the database afterwards, in order and before newer messages.
// As long as the spool contains a message, new ones are appended to it.
type Spooler struct {
	Spool        *spool.Spool
	Cipher       Cipher
	Endpoints    EndpointSource // current endpoints, or as last read
	Store        SpoolStore
	Backpressure *Backpressure // nil never refuses messages
	Log          *slog.Logger
	Metrics      *Metrics // nil records nothing

	// OnRecovered is called after each outage, once the spool is empty. It may be nil.
	OnRecovered func()

	inbox            *Inbox
	lastLogged       time.Time // time of the last log entry about a failed replay
	wake             chan struct{}
	unavailableUntil atomic.Int64 // the database is not tried before, by monotonic
	inOutage         atomic.Bool  // the database has been unavailable since the last recovery
	monotonic        func() int64
	readClock        func() bootClock
}

// An EndpointSource returns endpoints, from memory where it can.
type EndpointSource interface {
	// Endpoint returns an endpoint that is at most a few seconds old.
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// LastKnown returns the endpoint as last read, without accessing the store.
	LastKnown(instance string, channel adapters.Channel) (ep adapters.Endpoint, ok bool)
	// Refresh returns the endpoint as stored now. Calls are rate limited.
	Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

// A Cipher encrypts records. bind is additional authenticated data; see keyring.Ring.
type Cipher interface {
	Seal(plain []byte, bind string) string
	Open(sealed, bind string) (plain []byte, stale bool, err error)
}

// A SpoolStore reports whether the database is available and which senders were erased.
type SpoolStore interface {
	Ping(ctx context.Context) error
	// ErasedSince returns a function that reports whether a sender was erased after a given time,
	// which must not be before since. Messages from before the erasure must not be stored.
	ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.ErasedFunc, error)
}

// A spoolRecord is the content of one record. The tenant is that of the endpoint as stored at the
// time of the replay.
type spoolRecord struct {
	Endpoint     string           `json:"endpoint"`
	Instance     string           `json:"instance"`
	Channel      adapters.Channel `json:"channel"`
	Fingerprints []string         `json:"proofs,omitempty"` // of the credentials that may have signed it
	Message      adapters.Message `json:"message"`
	KeptAt       bootClock        `json:"up,omitzero"` // time of spooling
}

// credentialFingerprints returns fingerprints of the credentials with which the provider signs the
// webhooks of ep.
func credentialFingerprints(ep adapters.Endpoint) []string {
	var names []string
	for _, token := range ep.Current(adapters.AuthToken) {
		sum := sha256.Sum256([]byte(token))
		names = append(names, hex.EncodeToString(sum[:8]))
	}
	return names
}

const (
	spoolAAD = "spool/v1"

	endpointTimeout    = 1500 * time.Millisecond // to read an endpoint, before the last known is used
	directTimeout      = 2 * time.Second         // to store a message, before the spool is used
	unavailableBackoff = time.Second             // time for which other requests do not try
	replayTimeout      = 3 * time.Second         // to store one batch
	replayInterval     = 300 * time.Millisecond  // between attempts
	takeOverInterval   = 15 * time.Second        // how often files of dead processes are looked for
	logInterval        = time.Minute             // minimum time between log entries about failed replays

)

// NewSpooler initializes s. Nothing is replayed until Run is called.
func NewSpooler(s *Spooler) *Spooler {
	s.wake = make(chan struct{}, 1)
	began := time.Now()
	s.monotonic = func() int64 { return int64(time.Since(began)) }
	s.readClock = readBootClock
	return s
}

// covers reports whether messages of a channel are spooled, because its provider does not retry
// for long.
func (s *Spooler) covers(channel adapters.Channel) bool {
	return s != nil && !adapters.TraitsOf(channel).ProviderRetries
}

// Endpoint returns an endpoint for a webhook. While the database is unavailable, Endpoint returns
// the last known endpoint for channels that are spooled. If the database responds with an error,
// such as gateway.ErrNoEndpoint, that error is returned.
func (s *Spooler) Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	if !s.covers(channel) {
		return s.Endpoints.Endpoint(ctx, instance, channel)
	}
	last, known := s.Endpoints.LastKnown(instance, channel)
	if known && s.databaseUnavailable() {
		return last, nil
	}
	within, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	ep, err := s.Endpoints.Endpoint(within, instance, channel)
	if err == nil || !errors.Is(err, gateway.ErrUnavailable) && within.Err() == nil {
		return ep, err
	}
	s.recordFailure(ctx, unavailableBackoff, err)
	if known {
		return last, nil
	}
	return ep, err
}

// Refresh returns an endpoint as stored now; see EndpointSource.
func (s *Spooler) Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	return s.Endpoints.Refresh(ctx, instance, channel)
}

// accept stores messages in the database or, if that is not possible, in the spool. It returns nil
// only if they are stored durably.
func (s *Spooler) accept(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) error {
	if !s.Spool.HasRecords() && !s.databaseUnavailable() && !s.Backpressure.Active() {
		within, cancel := context.WithTimeout(ctx, directTimeout)
		err := s.inbox.store(within, ep, ms)
		cancel()
		if err == nil {
			s.recordSuccess()
			return nil
		}
		s.recordFailure(ctx, unavailableBackoff, err)
	}
	for _, m := range ms {
		if err := s.spoolMessage(ctx, ep, m); err != nil {
			s.Metrics.recordSpoolFailure()
			s.inOutage.Store(true)
			return fmt.Errorf("spool message: %w", err)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Spooler) spoolMessage(ctx context.Context, ep adapters.Endpoint, m adapters.Message) error {
	plain, err := json.Marshal(
		spoolRecord{
			Endpoint:     ep.ID,
			Instance:     ep.InstanceID,
			Channel:      ep.Channel,
			Fingerprints: credentialFingerprints(ep),
			Message:      m,
			KeptAt:       s.readClock(),
		},
	)
	if err != nil {
		return err
	}
	if err := s.Spool.Append(ctx, []byte(s.Cipher.Seal(plain, spoolAAD))); err != nil {
		return err
	}
	s.Metrics.recordSpooled()
	return nil
}

// Run replays the spool until ctx ends, and then once more. Webhook requests must have ended
// before.
func (s *Spooler) Run(ctx context.Context) {
	tick, takeOver := time.NewTicker(replayInterval), time.NewTicker(takeOverInterval)
	defer tick.Stop()
	defer takeOver.Stop()
	s.TakeOver(ctx)
	for {
		s.replay(ctx)
		select {
		case <-s.wake:
		case <-tick.C:
		case <-takeOver.C:
			s.TakeOver(ctx)
		case <-ctx.Done():
			s.replay(context.WithoutCancel(ctx))
			return
		}
		s.Metrics.setSpoolPending(s.pending())
	}
}

func (s *Spooler) pending() int64 {
	n, _ := s.Spool.Stat()
	return n
}

// TakeOver takes over the files of processes of this machine that have ended. Run does so
// periodically; a caller that needs it earlier calls TakeOver first.
func (s *Spooler) TakeOver(ctx context.Context) {
	n, err := s.Spool.TakeOver()
	if err != nil {
		s.Log.ErrorContext(ctx, "take over spool files failed", "error", err)
	}
	if n > 0 {
		s.Log.InfoContext(ctx, "spool files taken over", "messages", n)
		s.inOutage.Store(true)
	}
}

// databaseUnavailable reports whether the database did not respond recently.
func (s *Spooler) databaseUnavailable() bool { return s.monotonic() < s.unavailableUntil.Load() }

// recordFailure records that storing failed. If the database did not respond, other requests do
// not try it for d. The first failure of an outage is logged.
func (s *Spooler) recordFailure(ctx context.Context, d time.Duration, err error) {
	if errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		s.unavailableUntil.Store(s.monotonic() + int64(d))
	}
	if !s.inOutage.Swap(true) {
		s.Log.WarnContext(ctx, "database unavailable, spooling messages", "error", err)
	}
}

// recordSuccess records that the database is available. It ends an outage, which is logged once,
// when the spool is empty.
func (s *Spooler) recordSuccess() {
	s.unavailableUntil.Store(0)
	if s.inOutage.Load() && !s.Spool.HasRecords() && s.inOutage.Swap(false) {
		s.Log.Info("spool is empty again")
		if s.OnRecovered != nil {
			s.OnRecovered()
		}
	}
}
