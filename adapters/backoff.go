package adapters

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// A BackoffPolicy describes delays that grow exponentially with the number of failures. Every retry
// in the gateway follows one.
type BackoffPolicy struct {
	Initial    time.Duration // mean delay after the first failure
	Max        time.Duration // largest mean delay
	Multiplier float64       // growth of the mean from one failure to the next
	Jitter     float64       // largest deviation from the mean, as a fraction of it; 0 for none
}

// Delay returns how long to wait after a number of earlier failures, with jitter. It is never less
// than retryAfter, which is what the other side asked for, or zero.
func (p BackoffPolicy) Delay(failures int, retryAfter time.Duration) time.Duration {
	mean := min(float64(p.Max), float64(p.Initial)*math.Pow(p.Multiplier, float64(max(failures, 0))))
	b := backoff.ExponentialBackOff{
		InitialInterval: time.Duration(mean), RandomizationFactor: p.Jitter, Multiplier: p.Multiplier, MaxInterval: p.Max,
	}
	return max(b.NextBackOff(), retryAfter)
}

// A Backoff counts consecutive failures and returns the delays of its policy. It is not safe for
// concurrent use.
type Backoff struct {
	policy   BackoffPolicy
	failures int
}

// NewBackoff returns the backoff of a poller: delays start at initial, grow by half up to largest,
// and deviate by up to half.
func NewBackoff(initial, largest time.Duration) *Backoff {
	return &Backoff{policy: BackoffPolicy{Initial: initial, Max: largest, Multiplier: 1.5, Jitter: 0.5}}
}

// Next records a failure and returns the delay before the next attempt.
func (b *Backoff) Next() time.Duration {
	delay := b.policy.Delay(b.failures, 0)
	b.failures++
	return delay
}

// Reset forgets the failures; the next delay is the first of the policy. Call it after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Sleep waits before the next attempt after err, at least as long as its RetryAfter. It returns err
// without waiting if it must be reported: the credentials were rejected, another program receives the
// messages, or err is not a *SendError. It returns ctx.Err() if ctx ends first.
func (b *Backoff) Sleep(ctx context.Context, log *slog.Logger, ep Endpoint, err error) error {
	var e *SendError
	if !errors.As(err, &e) || e.Reason == BadSecret || e.Reason == Conflict {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	delay := max(b.Next(), e.RetryAfter)
	log.WarnContext(ctx, "poll failed, retrying", "endpoint", ep.ID, "reason", e.Reason, "code", e.Code,
		"retry_in_ms", delay.Milliseconds(), "error", err)
	return Sleep(ctx, delay)
}

// Sleep waits for d. It returns ctx.Err() if ctx ends first, and nil otherwise.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
