package ingest

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
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
	Metrics  *Metrics // nil: not counted

	once    sync.Once
	trigger chan struct{}
}

// A LogFetcher is an adapter whose provider keeps a log. Sweep hands over what the
// endpoint received since a time, oldest first, with the Keys that Receive gives; it
// stops at the first error of take. Its own errors are *adapters.SendError.
type LogFetcher interface {
	FetchLog(ctx context.Context, ep adapters.Endpoint, since time.Time, take func(ctx context.Context, batch []adapters.Message) error) error
}

// A BackfillStore remembers up to when logs were gone through. Times are by its own
// clock.
type BackfillStore interface {
	LeaseBackfills(ctx context.Context, channels []adapters.Channel, n int) ([]gateway.BackfillTask, error)
	CompleteBackfill(ctx context.Context, tenant, endpoint string, upTo time.Time, next time.Duration) error
	FailBackfill(ctx context.Context, tenant, endpoint string, next time.Duration) error
	ScheduleBackfills(ctx context.Context, channels []adapters.Channel) error
	MissingKeys(ctx context.Context, tenant, instance string, channel adapters.Channel, keys []string) ([]string, error)
	ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.ErasedFunc, error)
	SetEndpointStatus(ctx context.Context, s gateway.EndpointState, retryAt time.Time) (kept bool, err error)
}

const (
	backfillInterval     = 15 * time.Minute
	backfillPollInterval = 3 * time.Second
	backfillConcurrency  = 4
	backfillTimeout      = gateway.BackfillLeaseDuration - time.Minute
)

// Trigger makes every endpoint due. It never blocks.
func (f *Backfill) Trigger() {
	f.once.Do(f.prepare)
	select {
	case f.trigger <- struct{}{}:
	default:
	}
}

func (f *Backfill) prepare() { f.trigger = make(chan struct{}, 1) }

// Run asks until ctx ends.
func (f *Backfill) Run(ctx context.Context) {
	f.Trigger() // the process was away
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-f.trigger:
			if err := f.Store.ScheduleBackfills(ctx, f.channels()); err != nil {
				f.waitAfterError(ctx, err)
				f.Trigger()
			}
		case <-look.C:
			for f.runDue(ctx) == backfillConcurrency && ctx.Err() == nil {
			}
			look.Reset(backfillPollInterval + rand.N(backfillPollInterval/3))
		case <-ctx.Done():
			return
		}
	}
}

func (f *Backfill) waitAfterError(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.Log.WarnContext(ctx, "endpoints to back-fill not read", "error", err)
		adapters.Sleep(ctx, queue.ErrorDelay)
	}
}

// channels gives those whose provider keeps a log.
func (f *Backfill) channels() (cs []adapters.Channel) {
	for c, a := range f.Adapters {
		if _, ok := a.(LogFetcher); ok {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	return cs
}

// runDue asks for the endpoints that are due and gives how many there were.
func (f *Backfill) runDue(ctx context.Context) int {
	turns, err := f.Store.LeaseBackfills(ctx, f.channels(), backfillConcurrency)
	if err != nil {
		f.waitAfterError(ctx, err)
		return 0
	}
	var wg sync.WaitGroup
	for _, t := range turns {
		wg.Go(func() { f.backfillEndpoint(ctx, t) })
	}
	wg.Wait()
	return len(turns)
}

// backfillEndpoint goes through the log of one endpoint and keeps what came of it.
func (f *Backfill) backfillEndpoint(ctx context.Context, t gateway.BackfillTask) {
	ep := t.State.Endpoint
	started := time.Now()
	within, cancel := context.WithTimeout(ctx, backfillTimeout)
	found, stored, err := f.fetchMissing(within, t)
	cancel()
	log := f.Log.With("channel", ep.Channel, "instance", ep.InstanceID, "since", t.FetchFrom(), "found", found, "stored", stored, "took", time.Since(started).Round(time.Millisecond))
	after, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	if err == nil {
		f.Metrics.recordBackfill(ep.Channel, backfillDone)
		log.InfoContext(ctx, "back-fill")
		err = f.Store.CompleteBackfill(after, ep.TenantID, ep.ID, t.StartedAt, backfillInterval+rand.N(backfillInterval/5))
	} else {
		err = f.recordFailure(after, ctx, t, log, err)
	}
	if err != nil {
		log.WarnContext(ctx, "back-fill not noted", "error", err)
	}
}

// recordFailure keeps that an endpoint is to be asked for again: soon, when only this process
// ends. Credentials that the provider refuses are for staff to see.
func (f *Backfill) recordFailure(after, ctx context.Context, t gateway.BackfillTask, log *slog.Logger, err error) error {
	ep := t.State.Endpoint
	if ctx.Err() != nil {
		return f.Store.FailBackfill(after, ep.TenantID, ep.ID, 0)
	}
	reason := backfillStoreFailed
	var se *adapters.SendError
	if errors.As(err, &se) && se.Reason != "" {
		reason = string(se.Reason)
	}
	f.Metrics.recordBackfill(ep.Channel, reason)
	log.WarnContext(ctx, "back-fill failed", "reason", reason, "failures", t.Failures+1, "error", err)
	wait := gateway.Backoff(t.Failures)
	if se != nil {
		wait = max(wait, se.RetryAfter)
	}
	if se != nil && se.Reason == adapters.BadSecret {
		t.State.Status, t.State.ErrorMessage = gateway.EndpointError, "The provider refuses the credentials."
		if _, err := f.Store.SetEndpointStatus(after, t.State, time.Now().Add(gateway.Backoff(t.State.Retries))); err != nil {
			return err
		}
	}
	return f.Store.FailBackfill(after, ep.TenantID, ep.ID, wait)
}

// fetchMissing stores what is in the provider's log alone.
func (f *Backfill) fetchMissing(ctx context.Context, t gateway.BackfillTask) (found, stored int, err error) {
	defer gateway.RecoverInto(&err)
	ep := t.State.Endpoint
	erased, err := f.Store.ErasedSince(ctx, ep.TenantID, t.FetchFrom())
	if err != nil {
		return 0, 0, err
	}
	err = f.Adapters[ep.Channel].(LogFetcher).FetchLog(ctx, ep, t.FetchFrom(), func(ctx context.Context, ms []adapters.Message) error {
		found += len(ms)
		for some := range slices.Chunk(ms, maxBatch) {
			missing, err := f.selectMissing(ctx, ep, some, erased)
			if err != nil {
				return err
			}
			n, err := f.Inbox.AcceptBackfill(ctx, ep, missing)
			stored += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	f.Metrics.recordBackfilled(ep.Channel, stored)
	return found, stored, err
}

// selectMissing gives the messages that are not stored and whose sender was not erased since.
func (f *Backfill) selectMissing(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message, erased gateway.ErasedFunc) ([]adapters.Message, error) {
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
