package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"hydragate/adapters"
)

const (
	retryTick  = 5 * time.Second // how often seats that are due are looked for
	retryMost  = 8               // how many at a time
	firstRetry = 10 * time.Second
	lastRetry  = 8 * time.Minute // before jitter, which adds up to a quarter
)

// Run sets seats up again whose provider did not answer, until ctx ends. Any number
// of replicas may run at once: each seat is tried by one of them at a time.
func (c *Channels) Run(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for c.retryDue(ctx) == retryMost && ctx.Err() == nil {
		}
		tick.Reset(retryTick + rand.N(retryTick/5))
	}
}

// retryDue tries the seats that are due once each and tells how many there were.
func (c *Channels) retryDue(ctx context.Context) int {
	seats, err := c.Store.SeatsToRetry(ctx, retryMost)
	if err != nil && ctx.Err() == nil {
		c.log().ErrorContext(ctx, "channels to set up again cannot be read", "error", err)
	}
	var wg sync.WaitGroup
	for _, seat := range seats {
		wg.Go(func() { c.retry(ctx, c.withURL(seat)) })
	}
	wg.Wait()
	return len(seats)
}

// retry sets one seat up from the start. A stop in the middle leaves the seat due.
func (c *Channels) retry(ctx context.Context, seat Seat) {
	defer func() {
		if reason := recover(); reason != nil {
			c.log().ErrorContext(ctx, "panic in setting up", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", reason, "stack", string(debug.Stack()))
		}
	}()
	if c.Adapters[seat.Channel] == nil {
		return
	}
	if seat.Fault != nil { // who has the master key may do it
		c.log().ErrorContext(ctx, "channel not set up again", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", seat.Fault)
		return
	}
	seat, err := c.check(ctx, seat)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		_, err = c.connect(ctx, seat)
	default:
		_, err = c.mark(ctx, seat, err)
	}
	var refused *adapters.SetupError
	if err != nil && ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, ErrNoEndpoint) {
		c.log().ErrorContext(ctx, "channel set up again, and the outcome not kept", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", err)
	}
}

// backoff gives how long to wait after so many failures: 10 seconds at first, 10
// minutes at most, never two replicas' seats in step.
func backoff(failures int) time.Duration {
	d := lastRetry
	if failures < 6 {
		d = min(d, firstRetry<<failures)
	}
	return d + rand.N(d/4)
}
