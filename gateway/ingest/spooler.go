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

// A Spooler keeps messages of channels that do not deliver again, while the database
// cannot, and stores them when it can: in their order, and before newer ones of the
// same conversation. As long as it holds one, the next goes there too.
type Spooler struct {
	Spool        *spool.Spool
	Cipher       Cipher
	Endpoints    EndpointSource // the endpoints as they are, or as they were when last read
	Store        SpoolStore
	Backpressure *Backpressure // nil: never high
	Log          *slog.Logger
	Metrics      *Metrics // nil: not counted

	// Recovered is called after each outage, when all it held is stored; nil: nobody.
	OnRecovered func()

	inbox            *Inbox
	lastLogged       time.Time // when it was logged last that nothing can be replayed
	wake             chan struct{}
	unavailableUntil atomic.Int64 // until when nobody asks the database in vain, by ticks
	inOutage         atomic.Bool  // something could not be stored at once since the last recovery
	monotonic        func() int64
	readClock        func() bootClock
}

// An EndpointSource returns endpoints, from memory where it can.
type EndpointSource interface {
	// Endpoint returns an endpoint that is at most a few seconds old.
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// Last returns the endpoint as last read, without asking the store.
	LastKnown(instance string, channel adapters.Channel) (ep adapters.Endpoint, ok bool)
	// Fresh returns the endpoint as stored now, rate limited.
	Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

// A Cipher encrypts what is kept, bound to what bind names; see store.KeyRing.
type Cipher interface {
	Seal(plain []byte, bind string) string
	Open(sealed, bind string) (plain []byte, stale bool, err error)
}

// A SpoolStore tells a Spooler what has become of the world meanwhile.
type SpoolStore interface {
	Ping(ctx context.Context) error
	// ErasedSince tells whether a sender was erased after a time that is not before
	// since: what they said before is not to be stored any more.
	ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.ErasedFunc, error)
}

// A spoolRecord message is what one record of the spool holds. Whose it is says the
// endpoint as stored, when it is replayed.
type spoolRecord struct {
	Endpoint     string           `json:"endpoint"`
	Instance     string           `json:"instance"`
	Channel      adapters.Channel `json:"channel"`
	Fingerprints []string         `json:"proofs,omitempty"` // of the credentials it may have been signed with
	Message      adapters.Message `json:"message"`
	KeptAt       bootClock        `json:"up,omitzero"` // when it was kept
}

// credentialFingerprints name the credentials that a channel whose messages are spooled signs with.
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

	endpointTimeout    = 1500 * time.Millisecond // for an endpoint, before the one in memory is used
	directTimeout      = 2 * time.Second         // for the database, before the spool is used
	unavailableBackoff = time.Second             // for how long nobody else tries
	replayTimeout      = 3 * time.Second         // for one batch
	replayInterval     = 300 * time.Millisecond  // between two tries
	takeOverInterval   = 15 * time.Second        // how often files left behind are looked for
	logInterval        = time.Minute             // how often it is logged that nothing can be replayed

)

// NewSpooler makes s ready; Run must run for anything to be replayed.
func NewSpooler(s *Spooler) *Spooler {
	s.wake = make(chan struct{}, 1)
	began := time.Now()
	s.monotonic = func() int64 { return int64(time.Since(began)) }
	s.readClock = readBootClock
	return s
}

// covers reports whether messages of a channel are spooled, because its provider gives up after
// seconds of retries.
func (s *Spooler) covers(channel adapters.Channel) bool {
	return s != nil && !adapters.TraitsOf(channel).ProviderRetries
}

// Endpoint gives an endpoint for a hook. While the database does not answer, the one
// read last is good for what will be spooled, for a day; one that is not there, or
// that the database says anything else of, is an error.
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

// Refresh gives an endpoint as stored, once in a while; see Channels.Fresh.
func (s *Spooler) Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	return s.Endpoints.Refresh(ctx, instance, channel)
}

// accept stores messages, or keeps them until they can be stored. It returns nil only
// when one of the two is done durably.
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
			return fmt.Errorf("keep until the database is back: %w", err)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Spooler) spoolMessage(ctx context.Context, ep adapters.Endpoint, m adapters.Message) error {
	plain, err := json.Marshal(spoolRecord{Endpoint: ep.ID, Instance: ep.InstanceID, Channel: ep.Channel, Fingerprints: credentialFingerprints(ep), Message: m, KeptAt: s.readClock()})
	if err != nil {
		return err
	}
	if err := s.Spool.Append(ctx, []byte(s.Cipher.Seal(plain, spoolAAD))); err != nil {
		return err
	}
	s.Metrics.recordSpooled()
	return nil
}

// Run replays until ctx ends, and once more then: the hooks have ended before.
func (s *Spooler) Run(ctx context.Context) {
	tick, adopt := time.NewTicker(replayInterval), time.NewTicker(takeOverInterval)
	defer tick.Stop()
	defer adopt.Stop()
	s.TakeOver(ctx)
	for {
		s.replay(ctx)
		select {
		case <-s.wake:
		case <-tick.C:
		case <-adopt.C:
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

// TakeOver takes over what processes of this machine left behind. Run does so too; whoever
// must know before that calls it first.
func (s *Spooler) TakeOver(ctx context.Context) {
	n, err := s.Spool.TakeOver()
	if err != nil {
		s.Log.ErrorContext(ctx, "spool left behind not read", "error", err)
	}
	if n > 0 {
		s.Log.InfoContext(ctx, "spool left behind", "messages", n)
		s.inOutage.Store(true)
	}
}

// databaseUnavailable reports whether the database did not answer a moment ago.
func (s *Spooler) databaseUnavailable() bool { return s.monotonic() < s.unavailableUntil.Load() }

// recordFailure notes that the database could not be used, and that for so long nobody else
// needs to find out when it does not answer at all. The first word of an outage is
// logged.
func (s *Spooler) recordFailure(ctx context.Context, d time.Duration, err error) {
	if errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		s.unavailableUntil.Store(s.monotonic() + int64(d))
	}
	if !s.inOutage.Swap(true) {
		s.Log.WarnContext(ctx, "messages are kept in the spool", "error", err)
	}
}

// recordSuccess notes that the database can be used, and says so once after each outage.
func (s *Spooler) recordSuccess() {
	s.unavailableUntil.Store(0)
	if s.inOutage.Load() && !s.Spool.HasRecords() && s.inOutage.Swap(false) {
		s.Log.Info("the spool is empty again")
		if s.OnRecovered != nil {
			s.OnRecovered()
		}
	}
}
