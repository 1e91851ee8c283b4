package gateway

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
	"hydragate/gateway/spool"
)

// A Spooler keeps messages of channels that do not deliver again, while the database
// cannot, and stores them when it can: in their order, and before newer ones of the
// same conversation. As long as it holds one, the next goes there too.
type Spooler struct {
	Spool    *spool.Spool
	Keys     Sealer
	Seats    *Channels // the endpoints as they are, or as they were when last read
	Store    SpoolStore
	Pressure *Pressure // nil: never high
	Log      *slog.Logger

	// Recovered is called after each outage, when all it held is stored; nil: nobody.
	Recovered func()

	inbox  *Inbox
	said   time.Time // when it was logged last that nothing can be replayed
	kick   chan struct{}
	away   atomic.Int64 // until when nobody asks the database in vain, by ticks
	outage atomic.Bool  // something could not be stored at once since the last recovery
	ticks  func() int64
	uptime func() uptime
}

// A Sealer encrypts what is kept, bound to what bind names; see store.KeyRing.
type Sealer interface {
	Seal(plain []byte, bind string) string
	Open(sealed, bind string) (plain []byte, stale bool, err error)
}

// A SpoolStore tells a Spooler what has become of the world meanwhile.
type SpoolStore interface {
	Ping(ctx context.Context) error
	// ErasedSince tells whether a sender was erased after a time that is not before
	// since: what they said before is not to be stored any more.
	ErasedSince(ctx context.Context, tenant string, since time.Time) (Erasures, error)
}

// Erasures tell whether a sender of a channel was erased at a time or after it.
type Erasures func(channel adapters.Channel, externalID string, at time.Time) bool

// A spooled message is what one record of the spool holds. Whose it is says the
// endpoint as stored, when it is replayed.
type spooled struct {
	Endpoint string           `json:"endpoint"`
	Instance string           `json:"instance"`
	Channel  adapters.Channel `json:"channel"`
	Proofs   []string         `json:"proofs,omitempty"` // of the credentials it may have been signed with
	Message  adapters.Message `json:"message"`
	Up       uptime           `json:"up,omitzero"` // when it was kept
}

// proofs name the credentials that a channel whose messages are spooled signs with.
func proofs(ep adapters.Endpoint) []string {
	var names []string
	for _, token := range ep.Current(adapters.AuthToken) {
		sum := sha256.Sum256([]byte(token))
		names = append(names, hex.EncodeToString(sum[:8]))
	}
	return names
}

const (
	spoolBind = "spool/v1"

	seatTime   = 1500 * time.Millisecond // for an endpoint, before the one in memory is used
	directTime = 2 * time.Second         // for the database, before the spool is used
	awayTime   = time.Second             // for how long nobody else tries
	replayTime = 3 * time.Second         // for one batch
	replayTick = 300 * time.Millisecond  // between two tries
	adoptTick  = 15 * time.Second        // how often files left behind are looked for
	sayTime    = time.Minute             // how often it is logged that nothing can be replayed

	// MaxAge is how old a message may be that was spooled, and an endpoint that is used
	// without asking.
	MaxAge = 24 * time.Hour
)

// NewSpooler makes s ready; Run must run for anything to be replayed.
func NewSpooler(s *Spooler) *Spooler {
	s.kick = make(chan struct{}, 1)
	began := time.Now()
	s.ticks = func() int64 { return int64(time.Since(began)) }
	s.uptime = machineUptime
	return s
}

// keeps reports whether messages of a channel are spooled: its provider tries for
// seconds and gives up.
func (s *Spooler) keeps(channel adapters.Channel) bool {
	return s != nil && (channel == adapters.SMS || channel == adapters.WhatsApp)
}

// Endpoint gives an endpoint for a hook. While the database does not answer, the one
// read last is good for what will be spooled, for a day; one that is not there, or
// that the database says anything else of, is an error.
func (s *Spooler) Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	if !s.keeps(channel) {
		return s.Seats.Endpoint(ctx, instance, channel)
	}
	last, known := s.Seats.Last(instance, channel)
	if known && s.isAway() {
		return last, nil
	}
	within, cancel := context.WithTimeout(ctx, seatTime)
	defer cancel()
	ep, err := s.Seats.Endpoint(within, instance, channel)
	if err == nil || !errors.Is(err, ErrAway) && within.Err() == nil {
		return ep, err
	}
	s.lost(ctx, awayTime, err)
	if known {
		return last, nil
	}
	return ep, err
}

// Fresh gives an endpoint as stored, once in a while; see Channels.Fresh.
func (s *Spooler) Fresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error) {
	return s.Seats.Fresh(ctx, instance, channel)
}

// accept stores messages, or keeps them until they can be stored. It returns nil only
// when one of the two is done durably.
func (s *Spooler) accept(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) error {
	if !s.Spool.Holding() && !s.isAway() && !s.Pressure.High() {
		within, cancel := context.WithTimeout(ctx, directTime)
		err := s.inbox.store(within, ep, ms)
		cancel()
		if err == nil {
			s.found()
			return nil
		}
		s.lost(ctx, awayTime, err)
	}
	for _, m := range ms {
		if err := s.keep(ctx, ep, m); err != nil {
			spoolFailed.Inc()
			s.outage.Store(true)
			return fmt.Errorf("keep until the database is back: %w", err)
		}
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

func (s *Spooler) keep(ctx context.Context, ep adapters.Endpoint, m adapters.Message) error {
	plain, err := json.Marshal(spooled{Endpoint: ep.ID, Instance: ep.InstanceID, Channel: ep.Channel, Proofs: proofs(ep), Message: m, Up: s.uptime()})
	if err != nil {
		return err
	}
	if err := s.Spool.Keep(ctx, []byte(s.Keys.Seal(plain, spoolBind))); err != nil {
		return err
	}
	spoolKept.Inc()
	return nil
}

// Run replays until ctx ends, and once more then: the hooks have ended before.
func (s *Spooler) Run(ctx context.Context) {
	tick, adopt := time.NewTicker(replayTick), time.NewTicker(adoptTick)
	defer tick.Stop()
	defer adopt.Stop()
	s.Adopt(ctx)
	for {
		s.replay(ctx)
		select {
		case <-s.kick:
		case <-tick.C:
		case <-adopt.C:
			s.Adopt(ctx)
		case <-ctx.Done():
			s.replay(context.WithoutCancel(ctx))
			return
		}
		spoolPending.Set(float64(s.pending()))
	}
}

func (s *Spooler) pending() int64 {
	n, _ := s.Spool.Stat()
	return n
}

// Adopt takes over what processes of this machine left behind. Run does so too; whoever
// must know before that calls it first.
func (s *Spooler) Adopt(ctx context.Context) {
	n, err := s.Spool.Adopt()
	if err != nil {
		s.Log.ErrorContext(ctx, "spool left behind not read", "error", err)
	}
	if n > 0 {
		s.Log.InfoContext(ctx, "spool left behind", "messages", n)
		s.outage.Store(true)
	}
}

// isAway reports whether the database did not answer a moment ago.
func (s *Spooler) isAway() bool { return s.ticks() < s.away.Load() }

// lost notes that the database could not be used, and that for so long nobody else
// needs to find out when it does not answer at all. The first word of an outage is
// logged.
func (s *Spooler) lost(ctx context.Context, d time.Duration, err error) {
	if errors.Is(err, ErrAway) || errors.Is(err, context.DeadlineExceeded) {
		s.away.Store(s.ticks() + int64(d))
	}
	if !s.outage.Swap(true) {
		s.Log.WarnContext(ctx, "messages are kept in the spool", "error", err)
	}
}

// found notes that the database can be used, and says so once after each outage.
func (s *Spooler) found() {
	s.away.Store(0)
	if s.outage.Load() && !s.Spool.Holding() && s.outage.Swap(false) {
		s.Log.Info("the spool is empty again")
		if s.Recovered != nil {
			s.Recovered()
		}
	}
}
