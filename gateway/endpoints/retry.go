package endpoints

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	retryInterval  = 5 * time.Second // between searches for set-ups to be retried
	retryBatchSize = 8               // retried concurrently
)

// Run retries set-ups that failed temporarily, and checks endpoints, until ctx ends. Several replicas may
// call it concurrently: an endpoint is set up or checked by one of them at a time.
func (m *Manager) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if m.Checks != nil {
		wg.Go(func() { m.runChecks(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			more = m.retryDue(ctx) == retryBatchSize
		}
		timer.Reset(retryInterval + rand.N(retryInterval/5))
	}
}

// retryDue retries a batch of set-ups that are due and returns their number.
func (m *Manager) retryDue(ctx context.Context) int {
	states, err := m.Store.EndpointsToRetry(ctx, retryBatchSize)
	if err != nil && ctx.Err() == nil {
		m.log().ErrorContext(ctx, "read endpoints to retry failed", "error", err)
	}
	var wg sync.WaitGroup
	for _, state := range states {
		wg.Go(func() { m.retry(ctx, m.withURL(state)) })
	}
	wg.Wait()
	return len(states)
}

// retry sets up an endpoint from the start, and logs errors and panics. If ctx ends first, the
// endpoint stays due.
func (m *Manager) retry(ctx context.Context, state gateway.EndpointState) {
	if err := m.setUpSafely(ctx, state); err != nil {
		m.log().ErrorContext(ctx, "set up endpoint panicked", append(logAttrs(state), "error", err)...)
	}
}

// setUpSafely sets up an endpoint from the start. It returns an error only if the adapter panicked.
func (m *Manager) setUpSafely(ctx context.Context, state gateway.EndpointState) (err error) {
	defer gateway.RecoverInto(&err)
	m.setUpAgain(ctx, state)
	return nil
}

func (m *Manager) setUpAgain(ctx context.Context, state gateway.EndpointState) {
	if m.Adapters[state.Channel] == nil {
		return
	}
	if state.Err != nil { // another process may have the master key
		m.log().ErrorContext(ctx, "read endpoint failed", append(logAttrs(state), "error", state.Err)...)
		return
	}
	state, err := m.checkCredentials(ctx, state)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		err = m.connectOwner(ctx, state)
	default:
		_, err = m.saveResult(ctx, state, err)
	}
	_, logged := errors.AsType[*adapters.SetupError](err) // by saveResult
	if err != nil && ctx.Err() == nil && !logged && !errors.Is(err, gateway.ErrNoEndpoint) {
		m.log().ErrorContext(ctx, "store endpoint status failed", append(logAttrs(state), "error", err)...)
	}
}

// connectOwner configures the provider for an endpoint whose credentials were checked, unless another
// endpoint owns its address.
func (m *Manager) connectOwner(ctx context.Context, state gateway.EndpointState) error {
	ok, err := m.Store.ClaimAddresses(ctx, state)
	if _, taken := errors.AsType[*gateway.AddressTakenError](err); taken {
		m.Invalidate(state.InstanceID, state.Channel)
		m.log().WarnContext(ctx, "endpoint disabled", append(logAttrs(state), "reason", "address_taken")...)
		return nil
	}
	if err != nil || !ok {
		return err
	}
	_, err = m.connect(ctx, state)
	return err
}
