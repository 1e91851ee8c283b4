package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// Pollers fetch the messages of endpoints that no webhook reaches. Of all replicas
// one polls an endpoint: who holds its lease, renewed while it polls. A holder that
// wakes up too late can store nothing: the epoch of its lease is over.
type Pollers struct {
	Store    PollStore
	Inbox    *Inbox
	Adapters map[adapters.Channel]adapters.Adapter
	Holder   string // of this process, unique
	Log      *slog.Logger
}

// A PollStore keeps the leases and cursors of pollers.
type PollStore interface {
	// PollingSeats gives every active endpoint that fetches its messages or is connected for
	// them.
	PollingEndpoints(ctx context.Context) ([]gateway.EndpointState, error)
	// TakePoll takes or renews the lease of an endpoint for PollLease, with a new epoch
	// when the holder changes; ok is false while somebody else holds it.
	AcquirePollLease(ctx context.Context, tenant, endpoint, holder string) (epoch int64, cursor string, ok bool, err error)
	// FreePoll gives a lease back.
	ReleasePollLease(ctx context.Context, tenant, endpoint, holder string, epoch int64) error
	// MarkSeat notes that an endpoint does not work, to be set up again at retryAt.
	SetEndpointStatus(ctx context.Context, s gateway.EndpointState, retryAt time.Time) (kept bool, err error)
}

const (
	pollRenewInterval = 3 * time.Second
	pollScanInterval  = 2 * time.Second // how often new endpoints and free leases are looked for
)

// Run polls until ctx ends, then waits until nothing polls any more.
func (p *Pollers) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]poller{}
	ended := make(chan string)
	look := time.NewTicker(pollScanInterval)
	defer look.Stop()
	for {
		p.reconcile(ctx, running, ended, &wg)
		select {
		case id := <-ended:
			running[id].stop()
			delete(running, id)
		case <-look.C:
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

// reconcile starts a poller for each endpoint whose lease can be had, and stops those
// whose endpoint is gone or was set up anew.
func (p *Pollers) reconcile(ctx context.Context, running map[string]poller, ended chan<- string, wg *sync.WaitGroup) {
	asked, cancel := context.WithTimeout(ctx, pollRenewInterval)
	defer cancel()
	seats, err := p.Store.PollingEndpoints(asked)
	if err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "endpoints to poll not read", "error", err)
		}
		return
	}
	wanted := map[string]bool{}
	for _, s := range seats {
		// One that was set up anew is polled again once its poller from before has ended.
		id := s.ID
		wanted[id] = true
		a, polls := p.Adapters[s.Channel].(adapters.Poller)
		if r, ok := running[id]; ok && !r.updatedAt.Equal(s.UpdatedAt) {
			r.stop()
		}
		if _, ok := running[id]; ok || !polls {
			continue
		}
		epoch, cursor, ok, err := p.Store.AcquirePollLease(asked, s.TenantID, s.ID, p.Holder)
		if err != nil || !ok {
			continue
		}
		polling, stop := context.WithCancel(ctx)
		running[id] = poller{stop, s.UpdatedAt}
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

// A poller is at work for an endpoint as it was set up at a time.
type poller struct {
	stop      context.CancelFunc
	updatedAt time.Time
}

// poll polls one endpoint while the lease can be renewed.
func (p *Pollers) poll(ctx context.Context, a adapters.Poller, s gateway.EndpointState, epoch int64, cursor string) {
	log := p.Log.With("channel", s.Channel, "instance", s.InstanceID)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { p.renewLease(ctx, s, epoch, stop) })
	log.InfoContext(ctx, "polling", "epoch", epoch)
	err := p.fetch(ctx, a, s, cursor, func(ctx context.Context, ms []adapters.Message, cursor string) error {
		c := gateway.Cursor{EndpointID: s.ID, TenantID: s.TenantID, Holder: p.Holder, Epoch: epoch, Value: cursor}
		err := p.Inbox.AcceptBatch(ctx, s.Endpoint, ms, c)
		if errors.Is(err, gateway.ErrLeaseLost) {
			log.InfoContext(ctx, "poll lease lost", "epoch", epoch)
			stop()
		}
		return err
	})
	ended := ctx.Err() != nil
	stop()
	wg.Wait()
	var se *adapters.SendError
	after, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	if errors.As(err, &se) && !ended {
		log.ErrorContext(ctx, "polling ended", "reason", se.Reason, "code", se.Code)
		s.Status, s.ErrorMessage = gateway.EndpointError, "polling ended: "+string(se.Reason)
		if _, err := p.Store.SetEndpointStatus(after, s, time.Now().Add(time.Minute)); err != nil {
			log.WarnContext(ctx, "endpoint not marked", "error", err)
		}
	}
	if errors.Is(err, gateway.ErrPanic) { // whoever has the lease next begins where this one was
		log.ErrorContext(ctx, "polling ended", "error", err)
	}
	if err := p.Store.ReleasePollLease(after, s.TenantID, s.ID, p.Holder, epoch); err != nil {
		log.InfoContext(ctx, "poll lease not given back", "error", err)
	}
}

// fetch has an adapter fetch; a panic is an error like any other.
func (p *Pollers) fetch(ctx context.Context, a adapters.Poller, s gateway.EndpointState, cursor string, take func(context.Context, []adapters.Message, string) error) (err error) {
	defer gateway.RecoverInto(&err)
	return a.Poll(ctx, s.Endpoint, cursor, take)
}

// renewLease keeps the lease, and stops the poller when it cannot.
func (p *Pollers) renewLease(ctx context.Context, s gateway.EndpointState, epoch int64, stop func()) {
	tick := time.NewTicker(pollRenewInterval)
	defer tick.Stop()
	kept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked, cancel := context.WithTimeout(ctx, pollRenewInterval)
		now, _, ok, err := p.Store.AcquirePollLease(asked, s.TenantID, s.ID, p.Holder)
		cancel()
		switch {
		case err == nil && ok && now == epoch:
			kept = time.Now()
		case err == nil || time.Since(kept) > gateway.PollLeaseDuration:
			stop()
			return
		}
	}
}
