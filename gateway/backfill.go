package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hydragate/adapters"
)

// A Backfill asks providers that keep a log of messages for those that never came:
// their webhooks are given up after seconds. It does so after each start, after each
// outage, and once in a while. Of all replicas one asks for an endpoint at a time, and
// what is stored already is left as it is.
type Backfill struct {
	Store    BackfillStore
	Inbox    *Inbox
	Adapters map[adapters.Channel]adapters.Adapter
	Log      *slog.Logger

	once  sync.Once
	hurry chan struct{}
}

// A Sweeper is an adapter whose provider keeps a log. Sweep hands over what the
// endpoint received since a time, oldest first, with the Keys that Receive gives; it
// stops at the first error of take. Its own errors are *adapters.SendError.
type Sweeper interface {
	Sweep(ctx context.Context, ep adapters.Endpoint, since time.Time, take func(ctx context.Context, batch []adapters.Message) error) error
}

// A BackfillStore remembers up to when logs were gone through. Times are by its own
// clock.
type BackfillStore interface {
	TakeBackfills(ctx context.Context, channels []adapters.Channel, n int) ([]BackfillTurn, error)
	DoneBackfill(ctx context.Context, tenant, endpoint string, upTo time.Time, next time.Duration) error
	FailBackfill(ctx context.Context, tenant, endpoint string, next time.Duration) error
	HurryBackfills(ctx context.Context, channels []adapters.Channel) error
	MissingKeys(ctx context.Context, tenant, instance string, channel adapters.Channel, keys []string) ([]string, error)
	ErasedSince(ctx context.Context, tenant string, since time.Time) (Erasures, error)
	MarkSeat(ctx context.Context, s Seat, retryAt time.Time) (kept bool, err error)
}

// A BackfillTurn is the right to ask for one endpoint, for BackfillLease.
type BackfillTurn struct {
	Seat     Seat
	Since    time.Time // the last time it was done, or when the endpoint was made
	First    bool      // it was never done
	At       time.Time // now
	Failures int       // since the last time it was done
}

const (
	// BackfillLease is for how long one replica may ask for an endpoint.
	BackfillLease = 10 * time.Minute

	backfillEvery   = 15 * time.Minute
	backfillOverlap = 10 * time.Minute // for clocks that differ, and messages still on their way
	backfillLook    = 3 * time.Second
	backfillAtOnce  = 4
	backfillTime    = BackfillLease - time.Minute
)

// Hurry makes every endpoint due. It never blocks.
func (f *Backfill) Hurry() {
	f.once.Do(f.prepare)
	select {
	case f.hurry <- struct{}{}:
	default:
	}
}

func (f *Backfill) prepare() { f.hurry = make(chan struct{}, 1) }

// Run asks until ctx ends.
func (f *Backfill) Run(ctx context.Context) {
	f.Hurry() // the process was away
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-f.hurry:
			if err := f.Store.HurryBackfills(ctx, f.channels()); err != nil {
				f.failed(ctx, err)
				f.Hurry()
			}
		case <-look.C:
			for f.look(ctx) == backfillAtOnce && ctx.Err() == nil {
			}
			look.Reset(backfillLook + rand.N(backfillLook/3))
		case <-ctx.Done():
			return
		}
	}
}

func (f *Backfill) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.Log.WarnContext(ctx, "endpoints to back-fill not read", "error", err)
		adapters.Rest(ctx, faultWait)
	}
}

// channels gives those whose provider keeps a log.
func (f *Backfill) channels() (cs []adapters.Channel) {
	for c, a := range f.Adapters {
		if _, ok := a.(Sweeper); ok {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	return cs
}

// look asks for the endpoints that are due and gives how many there were.
func (f *Backfill) look(ctx context.Context) int {
	turns, err := f.Store.TakeBackfills(ctx, f.channels(), backfillAtOnce)
	if err != nil {
		f.failed(ctx, err)
		return 0
	}
	var wg sync.WaitGroup
	for _, t := range turns {
		wg.Go(func() { f.work(ctx, t) })
	}
	wg.Wait()
	return len(turns)
}

// work goes through the log of one endpoint and keeps what came of it.
func (f *Backfill) work(ctx context.Context, t BackfillTurn) {
	ep := t.Seat.Endpoint
	started := time.Now()
	within, cancel := context.WithTimeout(ctx, backfillTime)
	found, stored, err := f.fill(within, t)
	cancel()
	log := f.Log.With("channel", ep.Channel, "instance", ep.InstanceID, "since", t.from(), "found", found, "stored", stored, "took", time.Since(started).Round(time.Millisecond))
	after, cancel := outlive(ctx)
	defer cancel()
	if err == nil {
		backfills.WithLabelValues(string(ep.Channel), "done").Inc()
		log.InfoContext(ctx, "back-fill")
		err = f.Store.DoneBackfill(after, ep.TenantID, ep.ID, t.At, backfillEvery+rand.N(backfillEvery/5))
	} else {
		err = f.fail(after, ctx, t, log, err)
	}
	if err != nil {
		log.WarnContext(ctx, "back-fill not noted", "error", err)
	}
}

// fail keeps that an endpoint is to be asked for again: soon, when only this process
// ends. Credentials that the provider refuses are for staff to see.
func (f *Backfill) fail(after, ctx context.Context, t BackfillTurn, log *slog.Logger, err error) error {
	ep := t.Seat.Endpoint
	if ctx.Err() != nil {
		return f.Store.FailBackfill(after, ep.TenantID, ep.ID, 0)
	}
	reason := "store"
	var se *adapters.SendError
	if errors.As(err, &se) {
		reason = string(se.Reason)
	}
	backfills.WithLabelValues(string(ep.Channel), reason).Inc()
	log.WarnContext(ctx, "back-fill failed", "reason", reason, "failures", t.Failures+1, "error", err)
	wait := backoff(t.Failures)
	if se != nil {
		wait = max(wait, se.RetryAfter)
	}
	if se != nil && se.Reason == adapters.BadSecret {
		t.Seat.Status, t.Seat.ErrorMessage = Faulty, "The provider refuses the credentials."
		if _, err := f.Store.MarkSeat(after, t.Seat, time.Now().Add(backoff(t.Seat.Retries))); err != nil {
			return err
		}
	}
	return f.Store.FailBackfill(after, ep.TenantID, ep.ID, wait)
}

// from is how far back a turn looks: to the last time and a little more, or to when
// the endpoint was made; never further than MaxAge and a little more.
func (t BackfillTurn) from() time.Time {
	since, first := t.Since, t.At.Add(-MaxAge)
	if since.Before(first) {
		since = first
	}
	since = since.Add(-backfillOverlap)
	if t.First && since.Before(t.Since) {
		return t.Since // nothing said before it was connected
	}
	return since
}

// fill stores what is in the provider's log alone.
func (f *Backfill) fill(ctx context.Context, t BackfillTurn) (found, stored int, err error) {
	defer caught(&err)
	ep := t.Seat.Endpoint
	erased, err := f.Store.ErasedSince(ctx, ep.TenantID, t.from())
	if err != nil {
		return 0, 0, err
	}
	err = f.Adapters[ep.Channel].(Sweeper).Sweep(ctx, ep, t.from(), func(ctx context.Context, ms []adapters.Message) error {
		found += len(ms)
		for some := range slices.Chunk(ms, maxBatch) {
			missing, err := f.missing(ctx, ep, some, erased)
			if err != nil {
				return err
			}
			n, err := f.Inbox.AcceptLate(ctx, ep, missing)
			stored += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	backfilled.WithLabelValues(string(ep.Channel)).Add(float64(stored))
	return found, stored, err
}

// missing gives the messages that are not stored and whose sender was not erased since.
func (f *Backfill) missing(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message, erased Erasures) ([]adapters.Message, error) {
	keys := make([]string, len(ms))
	for i, m := range ms {
		keys[i] = m.Key
	}
	absent, err := f.Store.MissingKeys(ctx, ep.TenantID, ep.InstanceID, ep.Channel, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(ms), func(m adapters.Message) bool {
		return !slices.Contains(absent, m.Key) || erased(ep.Channel, m.Sender.ID, m.SentAt)
	}), nil
}
