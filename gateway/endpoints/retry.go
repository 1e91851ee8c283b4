package endpoints

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	retryInterval  = 5 * time.Second // how often seats that are due are looked for
	retryBatchSize = 8               // how many at a time
)

// Run sets seats up again whose provider did not answer, until ctx ends. Any number
// of replicas may run at once: each seat is tried by one of them at a time.
func (c *Manager) Run(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for c.retryDue(ctx) == retryBatchSize && ctx.Err() == nil {
		}
		tick.Reset(retryInterval + rand.N(retryInterval/5))
	}
}

// retryDue tries the seats that are due once each and tells how many there were.
func (c *Manager) retryDue(ctx context.Context) int {
	seats, err := c.Store.EndpointsToRetry(ctx, retryBatchSize)
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
func (c *Manager) retry(ctx context.Context, seat gateway.EndpointState) {
	defer func() {
		if reason := recover(); reason != nil {
			c.log().ErrorContext(ctx, "panic in setting up", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", reason, "stack", string(debug.Stack()))
		}
	}()
	if c.Adapters[seat.Channel] == nil {
		return
	}
	if seat.Err != nil { // who has the master key may do it
		c.log().ErrorContext(ctx, "channel not set up again", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", seat.Err)
		return
	}
	seat, err := c.checkCredentials(ctx, seat)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		_, err = c.connect(ctx, seat)
	default:
		_, err = c.saveStatus(ctx, seat, err)
	}
	var refused *adapters.SetupError
	if err != nil && ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, gateway.ErrNoEndpoint) {
		c.log().ErrorContext(ctx, "channel set up again, and the outcome not kept", "tenant", seat.TenantID, "instance", seat.InstanceID, "channel", string(seat.Channel), "error", err)
	}
}
