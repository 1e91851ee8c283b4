package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/queue"
)

// A Backfill searches the logs of providers for messages whose webhooks were lost, because these
// providers stop retrying after seconds. It does so after each start, after each outage, and
// periodically. Only one replica processes an endpoint at a time. Messages that are already stored
// are left unchanged.
type Backfill struct {
	Store    BackfillStore
	Inbox    *Inbox
	Adapters map[adapters.Channel]adapters.Adapter
	Log      *slog.Logger
	Metrics  *Metrics // nil records nothing

	once    sync.Once
	trigger chan struct{}
}

// A LogFetcher is an adapter whose provider keeps a log of messages. FetchLog passes to take what
// the endpoint received since a time, oldest first, with the same Keys as Receive. It stops at the
// first error of take. Its own errors are of type *adapters.SendError.
type LogFetcher interface {
	FetchLog(
		ctx context.Context,
		ep adapters.Endpoint,
		since time.Time,
		take func(ctx context.Context, batch []adapters.Message) error,
	) error
}

// A BackfillStore stores the times up to which logs have been searched. Times are by its own
// clock.
type BackfillStore interface {
	LeaseBackfills(ctx context.Context, channels []adapters.Channel, n int) ([]gateway.BackfillTask, error)
	CompleteBackfill(ctx context.Context, tenant, endpoint string, upTo time.Time, next time.Duration) error
	FailBackfill(ctx context.Context, tenant, endpoint string, next time.Duration) error
	ScheduleBackfills(ctx context.Context, channels []adapters.Channel) error
	MissingKeys(ctx context.Context, tenant, instance string, channel adapters.Channel, keys []string) ([]string, error)
	ErasedSince(ctx context.Context, tenant string, since time.Time) (gateway.ErasedFunc, error)
	RecordNotice(ctx context.Context, ep adapters.Endpoint, n gateway.Notice) error
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

// Run searches until ctx ends.
func (f *Backfill) Run(ctx context.Context) {
	f.Trigger() // messages may have been lost while the process was down
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.trigger:
			if err := f.Store.ScheduleBackfills(ctx, f.channels()); err != nil {
				f.waitAfterError(ctx, err)
				f.Trigger()
			}
		case <-timer.C:
			for more := true; more && ctx.Err() == nil; {
				more = f.runDue(ctx) == backfillConcurrency
			}
			timer.Reset(backfillPollInterval + rand.N(backfillPollInterval/3))
		case <-ctx.Done():
			return
		}
	}
}

func (f *Backfill) waitAfterError(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.Log.WarnContext(ctx, "lease endpoints for back-fill failed", "error", err)
		_ = adapters.Sleep(ctx, queue.ErrorDelay)
	}
}

// channels returns the channels whose provider keeps a log.
func (f *Backfill) channels() (cs []adapters.Channel) {
	for c, a := range f.Adapters {
		if _, ok := a.(LogFetcher); ok {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	return cs
}

// runDue processes the endpoints that are due and returns their number.
func (f *Backfill) runDue(ctx context.Context) int {
	tasks, err := f.Store.LeaseBackfills(ctx, f.channels(), backfillConcurrency)
	if err != nil {
		f.waitAfterError(ctx, err)
		return 0
	}
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() { f.backfillEndpoint(ctx, t) })
	}
	wg.Wait()
	return len(tasks)
}

// backfillEndpoint searches the log of one endpoint and stores the outcome.
func (f *Backfill) backfillEndpoint(ctx context.Context, t gateway.BackfillTask) {
	ep := t.State.Endpoint
	started := time.Now()
	within, cancel := context.WithTimeout(ctx, backfillTimeout)
	found, stored, err := f.fetchMissing(within, t)
	cancel()
	log := f.Log.With("channel", ep.Channel, "instance", ep.InstanceID, "since", t.FetchFrom(),
		"found", found, "stored", stored, "took_ms", time.Since(started).Milliseconds())
	after, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	if err == nil {
		f.Metrics.recordBackfill(ep.Channel, backfillDone)
		log.InfoContext(ctx, "back-fill done")
		err = f.Store.CompleteBackfill(after, ep.TenantID, ep.ID, t.StartedAt, backfillInterval+rand.N(backfillInterval/5))
	} else {
		err = f.recordFailure(after, ctx, t, log, err)
	}
	if err != nil {
		log.WarnContext(ctx, "store result of back-fill failed", "error", err)
	}
}

// recordFailure schedules the retry: immediately if only this process ends. If the provider
// rejected the credentials, it is asked whether the endpoint still works.
func (f *Backfill) recordFailure(
	after, ctx context.Context,
	t gateway.BackfillTask,
	log *slog.Logger,
	err error,
) error {
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
	var retryAfter time.Duration
	if se != nil {
		retryAfter = se.RetryAfter
	}
	if se != nil && se.Reason == adapters.BadSecret {
		n := gateway.Notice{
			Kind:   gateway.SendRefused,
			Reason: cmp.Or(se.Code, string(se.Reason)),
			Detail: "the message log could not be read",
		}
		if err := f.Store.RecordNotice(after, ep, n); err != nil {
			return err
		}
	}
	return f.Store.FailBackfill(after, ep.TenantID, ep.ID, gateway.SetupBackoff().Delay(t.Failures, retryAfter))
}

// fetchMissing stores the messages of the log that are not stored yet.
func (f *Backfill) fetchMissing(ctx context.Context, t gateway.BackfillTask) (found, stored int, err error) {
	defer gateway.RecoverInto(&err)
	ep := t.State.Endpoint
	erased, err := f.Store.ErasedSince(ctx, ep.TenantID, t.FetchFrom())
	if err != nil {
		return 0, 0, err
	}
	fetcher, ok := f.Adapters[ep.Channel].(LogFetcher)
	if !ok {
		return 0, 0, fmt.Errorf("channel %s has no log", ep.Channel)
	}
	err = fetcher.FetchLog(ctx, ep, t.FetchFrom(), func(ctx context.Context, ms []adapters.Message) error {
		found += len(ms)
		for batch := range slices.Chunk(ms, maxBatch) {
			missing, err := f.selectMissing(ctx, ep, batch, erased)
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

// selectMissing returns the messages that are not stored, without those of senders who were erased
// later.
func (f *Backfill) selectMissing(
	ctx context.Context,
	ep adapters.Endpoint,
	ms []adapters.Message,
	erased gateway.ErasedFunc,
) ([]adapters.Message, error) {
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
