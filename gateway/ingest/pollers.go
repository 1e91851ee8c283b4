package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// Pollers fetch the messages of endpoints without a webhook. Only the replica that holds the lease
// of an endpoint and its address polls it, and renews the lease while it polls. A holder whose lease
// has expired cannot store anything, because the epoch of the lease has changed.
type Pollers struct {
	Store    PollStore
	Inbox    *Inbox
	Adapters map[adapters.Channel]adapters.Adapter
	Holder   string // unique name of this process
	Log      *slog.Logger

	// MaxProofTime limits the delay after a failure, and how long an endpoint must be polled without
	// one until it works again. If it is zero, the limit is conflictProofTime.
	MaxProofTime time.Duration
}

// A PollStore stores the leases and cursors of pollers.
type PollStore interface {
	// PollingEndpoints returns every endpoint that polls or keeps a connection open, with or without a fault.
	PollingEndpoints(ctx context.Context) ([]gateway.EndpointState, error)
	// AcquirePollLease acquires or renews the lease of an endpoint for gateway.PollLeaseDuration.
	// The epoch increases when the holder changes. ok is false if another process holds the lease, or
	// if the address of the endpoint belongs to another one or is still polled for another one.
	AcquirePollLease(ctx context.Context, tenant, endpoint, holder string) (epoch int64, cursor string, ok bool, err error)
	// ReleasePollLease releases the lease of an endpoint and of its address.
	ReleasePollLease(ctx context.Context, ep adapters.Endpoint, holder string, epoch int64) error
	// RecordPoll stores why an endpoint cannot be polled, or nothing, if c.Holder has its lease. It
	// returns the status of the endpoint.
	RecordPoll(
		ctx context.Context, s gateway.EndpointState, c gateway.Cursor, fault string,
	) (gateway.EndpointStatus, error)
}

const (
	pollRenewInterval = 3 * time.Second
	pollScanInterval  = 2 * time.Second // how often new endpoints and expired leases are looked for
)

// Run polls until ctx ends, then waits for all pollers to stop.
func (p *Pollers) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]poller{}
	ended := make(chan string)
	scan := time.NewTicker(pollScanInterval)
	defer scan.Stop()
	for {
		if ctx.Err() == nil {
			p.reconcile(ctx, running, ended, &wg)
		}
		select {
		case id := <-ended:
			running[id].stop()
			delete(running, id)
		case <-scan.C:
		case <-ctx.Done():
			for len(running) > 0 {
				id := <-ended
				running[id].stop()
				delete(running, id)
			}
			return
		}
	}
}

// reconcile starts a poller for each endpoint whose lease can be acquired, and stops those whose
// endpoint was removed or set up again.
func (p *Pollers) reconcile(ctx context.Context, running map[string]poller, ended chan<- string, wg *sync.WaitGroup) {
	bounded, cancel := context.WithTimeout(ctx, pollRenewInterval)
	defer cancel()
	states, err := p.Store.PollingEndpoints(bounded)
	if err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "read polling endpoints failed", "error", err)
		}
		return
	}
	wanted := map[string]bool{}
	for _, s := range states {
		// An endpoint that was set up again is polled once its previous poller has ended.
		id := s.ID
		wanted[id] = true
		a, polls := p.Adapters[s.Channel].(adapters.Poller)
		if r, ok := running[id]; ok && !r.updatedAt.Equal(s.UpdatedAt) {
			r.stop()
		}
		if _, ok := running[id]; ok || !polls || isPolled(running, s.Endpoint) {
			continue
		}
		epoch, cursor, ok, err := p.Store.AcquirePollLease(bounded, s.TenantID, s.ID, p.Holder)
		if err != nil || !ok {
			continue
		}
		polling, stop := context.WithCancel(ctx)
		running[id] = poller{stop, s.UpdatedAt, addressesOf(s.Endpoint)}
		wg.Go(func() {
			defer func() { ended <- id }()
			p.poll(polling, a, s, epoch, cursor)
		})
	}
	for id, r := range running {
		if !wanted[id] {
			r.stop()
		}
	}
}

// A poller is a running poller of an endpoint that was last changed at updatedAt.
type poller struct {
	stop      context.CancelFunc
	updatedAt time.Time
	addresses []adapters.ProviderAddress
}

func addressesOf(ep adapters.Endpoint) []adapters.ProviderAddress {
	return adapters.TraitsOf(ep.Channel).Addresses(ep)
}

// isPolled reports whether a running poller polls an address of ep. It may be that of an endpoint
// that was removed, and then has not ended yet.
func isPolled(running map[string]poller, ep adapters.Endpoint) bool {
	for _, r := range running {
		if slices.ContainsFunc(addressesOf(ep), func(a adapters.ProviderAddress) bool {
			return slices.Contains(r.addresses, a)
		}) {
			return true
		}
	}
	return false
}

// poll polls one endpoint while its lease can be renewed.
func (p *Pollers) poll(ctx context.Context, a adapters.Poller, s gateway.EndpointState, epoch int64, cursor string) {
	log := p.Log.With("channel", s.Channel, "instance", s.InstanceID)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { p.renewLease(ctx, s, epoch, stop) })
	log.InfoContext(ctx, "polling started", "epoch", epoch)
	c := gateway.Cursor{EndpointID: s.ID, TenantID: s.TenantID, Holder: p.Holder, Epoch: epoch, Value: cursor}
	h := pollHealth{
		store: p.Store, state: s, lease: c, position: cursor, log: log,
		maxProofTime: cmp.Or(p.MaxProofTime, conflictProofTime),
	}
	err := p.pollUntilLost(ctx, a, &h, func(ctx context.Context, ms []adapters.Message, cursor string) error {
		c := c
		c.Value = cursor
		err := p.Inbox.AcceptBatch(ctx, s.Endpoint, ms, c)
		if errors.Is(err, gateway.ErrLeaseLost) {
			log.InfoContext(ctx, "poll lease lost", "epoch", epoch)
			stop()
		}
		if err == nil {
			h.position = cursor
		}
		return err
	})
	stop()
	wg.Wait()
	after, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	if errors.Is(err, gateway.ErrPanic) { // the next holder of the lease continues at the same cursor
		log.ErrorContext(ctx, "polling failed", "error", err)
	}
	if err := p.Store.ReleasePollLease(after, s.Endpoint, p.Holder, epoch); err != nil {
		log.InfoContext(ctx, "release poll lease failed", "error", err)
	}
}

// pollUntilLost polls until ctx ends or the adapter panics. What the adapter cannot retry by itself, such as
// rejected credentials or another program that polls the same bot, is a fault of the endpoint. Polling
// goes on, with growing delays, so that it resumes by itself.
func (p *Pollers) pollUntilLost(ctx context.Context, a adapters.Poller, h *pollHealth, take batchFunc) error {
	for failures := 0; ; failures++ {
		started := time.Now()
		err := h.prove(ctx, func() error { return p.fetch(ctx, a, h.state, h.position, take) })
		var se *adapters.SendError
		if ctx.Err() != nil || !errors.As(err, &se) {
			return err
		}
		if time.Since(started) > 2*h.proofTime() {
			failures = 0
		}
		h.fail(ctx, se)
		delay := pollRetryPolicy(h.maxProofTime).Delay(failures, se.RetryAfter)
		h.log.ErrorContext(ctx, "polling failed, retrying", "reason", se.Reason, "code", se.Code,
			"retry_in_ms", delay.Milliseconds(), "error", err)
		if err := adapters.Sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// pollRetryPolicy returns the delays after errors that the adapter does not retry by itself, up to longest
// or half a minute.
func pollRetryPolicy(longest time.Duration) adapters.BackoffPolicy {
	return adapters.BackoffPolicy{
		Initial: time.Second, Max: min(30*time.Second, longest), Multiplier: 1.7, Jitter: 0.3,
	}
}

// A pollHealth records whether an endpoint can be polled.
type pollHealth struct {
	store    PollStore
	state    gateway.EndpointState
	lease    gateway.Cursor
	position string // after the last batch
	log      *slog.Logger

	maxProofTime time.Duration
	failures     []time.Time     // of the last minute, for reason
	reason       adapters.Reason // of the last failure
}

const (
	// These are how long a poll must not fail until the endpoint works again. Another program that polls
	// the same bot interrupts it within its own delay.
	pollProofTime     = 5 * time.Second
	conflictProofTime = 75 * time.Second
	// failureLimit is the number of conflicts, or of rejections of the credentials, in a minute that are a
	// fault. A single conflict follows from a connection that the provider has not closed yet, and
	// providers sometimes reject valid credentials for a moment.
	failureLimit = 3
)

// prove calls poll. If it does not return within proofTime, the endpoint works.
func (h *pollHealth) prove(ctx context.Context, poll func() error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		if adapters.Sleep(polling, h.proofTime()) == nil {
			h.record(polling, "")
		}
	})
	return poll()
}

func (h *pollHealth) proofTime() time.Duration {
	if h.reason == adapters.Conflict {
		return min(conflictProofTime, h.maxProofTime)
	}
	return min(pollProofTime, h.maxProofTime)
}

// fail records a failed poll.
func (h *pollHealth) fail(ctx context.Context, e *adapters.SendError) {
	if h.reason != e.Reason {
		h.reason, h.failures = e.Reason, nil
	}
	if e.Reason == adapters.Conflict || e.Reason == adapters.BadSecret {
		now := time.Now()
		h.failures = append(h.failures, now)
		h.failures = slices.DeleteFunc(h.failures, func(t time.Time) bool { return now.Sub(t) > time.Minute })
		if len(h.failures) < failureLimit {
			return
		}
	}
	h.record(ctx, fmt.Sprintf("Messages cannot be fetched: %v (%s).", e.Err, e.Code))
}

// record stores a fault, or that there is none.
func (h *pollHealth) record(ctx context.Context, fault string) {
	ctx, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	status, err := h.store.RecordPoll(ctx, h.state, h.lease, fault)
	switch {
	case errors.Is(err, gateway.ErrNoEndpoint): // the lease is lost
	case err != nil:
		h.log.WarnContext(ctx, "store endpoint status failed", "error", err)
	default:
		h.log.DebugContext(ctx, "poll recorded", "status", string(status), "fault", fault)
	}
}

// batchFunc stores a batch of messages; see adapters.Poller.
type batchFunc = func(ctx context.Context, batch []adapters.Message, cursor string) error

// fetch calls Poll of the adapter and returns a panic as an error.
func (p *Pollers) fetch(
	ctx context.Context,
	a adapters.Poller,
	s gateway.EndpointState,
	cursor string,
	take func(context.Context, []adapters.Message, string) error,
) (err error) {
	defer gateway.RecoverInto(&err)
	return a.Poll(ctx, s.Endpoint, cursor, take)
}

// renewLease renews the lease until ctx ends, and calls stop if it cannot.
func (p *Pollers) renewLease(ctx context.Context, s gateway.EndpointState, epoch int64, stop func()) {
	tick := time.NewTicker(pollRenewInterval)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, pollRenewInterval)
		now, _, ok, err := p.Store.AcquirePollLease(bounded, s.TenantID, s.ID, p.Holder)
		cancel()
		switch {
		case err == nil && ok && now == epoch:
			renewed = time.Now()
		case err == nil || time.Since(renewed) > gateway.PollLeaseDuration:
			stop()
			return
		}
	}
}
