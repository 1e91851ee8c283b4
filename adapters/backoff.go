package adapters

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// A Backoff is how long a Poller waits between tries: longer each time, and never the same
// for two of them.
type Backoff struct{ next *backoff.ExponentialBackOff }

// NewBackoff gives a Pause that begins with first and grows to most, both more or less.
func NewBackoff(first, most time.Duration) *Backoff {
	w := backoff.NewExponentialBackOff()
	w.InitialInterval, w.MaxInterval = first, most
	return &Backoff{w}
}

// Next gives the next wait.
func (p *Backoff) Next() time.Duration { return p.next.NextBackOff() }

// Reset begins again with the first.
func (p *Backoff) Reset() { p.next.Reset() }

// Sleep waits as long as a failed call calls for, or gives the error back when waiting
// is senseless: the provider does not know the credentials, or it is none of its errors.
func (p *Backoff) Sleep(ctx context.Context, log *slog.Logger, ep Endpoint, err error) error {
	var e *SendError
	if !errors.As(err, &e) || e.Reason == BadSecret {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wait := max(p.Next(), e.RetryAfter)
	log.WarnContext(ctx, "poll waits", slog.String("endpoint", ep.ID), slog.String("reason", string(e.Reason)), slog.String("code", e.Code), slog.Duration("wait", wait))
	Sleep(ctx, wait)
	return nil
}

// Sleep waits, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
