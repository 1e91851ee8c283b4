package adapters

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffPolicy_Delay(t *testing.T) {
	policy := BackoffPolicy{Initial: time.Second, Max: 30 * time.Second, Multiplier: 2}
	jittery := BackoffPolicy{Initial: 10 * time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.25}
	for _, c := range []struct {
		name       string
		policy     BackoffPolicy
		failures   int
		retryAfter time.Duration
		min, max   time.Duration
	}{
		{name: "first", policy: policy, min: time.Second, max: time.Second},
		{name: "negative", policy: policy, failures: -1, min: time.Second, max: time.Second},
		{name: "fourth", policy: policy, failures: 4, min: 16 * time.Second, max: 16 * time.Second},
		{name: "capped", policy: policy, failures: 5, min: 30 * time.Second, max: 30 * time.Second},
		{name: "overflow", policy: policy, failures: math.MaxInt, min: 30 * time.Second, max: 30 * time.Second},
		{name: "longer Retry-After", policy: policy, retryAfter: time.Minute, min: time.Minute, max: time.Minute},
		{
			name: "shorter Retry-After", policy: policy, failures: 2, retryAfter: time.Second,
			min: 4 * time.Second, max: 4 * time.Second,
		},
		{name: "jitter", policy: jittery, failures: 1, min: 15 * time.Second, max: 25 * time.Second},
		{name: "jitter of the maximum", policy: jittery, failures: 9, min: 45 * time.Second, max: 75 * time.Second},
	} {
		for range 50 {
			got := c.policy.Delay(c.failures, c.retryAfter)
			if got < c.min-time.Millisecond || got > c.max+time.Millisecond {
				t.Errorf("%s: Delay(%d, %v) = %v, want %v to %v", c.name, c.failures, c.retryAfter, got, c.min, c.max)
			}
		}
	}
}

func TestBackoff_Next(t *testing.T) {
	b := NewBackoff(time.Second, 10*time.Second)
	means := []float64{1, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10, 10}
	for range 2 {
		for n, mean := range means {
			lower, upper := time.Duration(mean/2*1e9), time.Duration(mean*1.5*1e9)
			if got := b.Next(); got < lower-time.Millisecond || got > upper+time.Millisecond {
				t.Errorf("Next() after %d failures = %v, want %v to %v", n, got, lower, upper)
			}
		}
		b.Reset()
	}
}

func TestBackoff_Sleep(t *testing.T) {
	other := errors.New("not a SendError")
	for _, tt := range []struct {
		name          string
		err           error
		endedBefore   bool // ctx, before the call
		endsDuring    bool // ctx, after a second
		want          error
		minTook, most time.Duration
	}{
		{name: "own delay", err: &SendError{Reason: Unreachable}, minTook: 5 * time.Second, most: 15 * time.Second},
		{
			name: "Retry-After", err: &SendError{Reason: Throttled, RetryAfter: time.Minute},
			minTook: time.Minute, most: time.Minute,
		},
		{
			name: "context ends during the delay", err: &SendError{Reason: Throttled, RetryAfter: time.Minute},
			endsDuring: true, want: context.Canceled, minTook: time.Second, most: time.Second,
		},
		{name: "context ended before", err: &SendError{Reason: Unreachable}, endedBefore: true, want: context.Canceled},
		{name: "credentials rejected", err: &SendError{Reason: BadSecret}, want: &SendError{Reason: BadSecret}},
		{name: "not a SendError", err: other, want: other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.endedBefore {
					cancel()
				}
				if tt.endsDuring {
					time.AfterFunc(time.Second, cancel)
				}
				started := time.Now()
				b := NewBackoff(10*time.Second, time.Minute)
				err := b.Sleep(ctx, slog.New(slog.DiscardHandler), Endpoint{ID: "endpoint"}, tt.err)
				if (err == nil) != (tt.want == nil) || err != nil && err.Error() != tt.want.Error() {
					t.Errorf("Sleep(%v) = %v, want %v", tt.err, err, tt.want)
				}
				if took := time.Since(started); took < tt.minTook || took > tt.most {
					t.Errorf("Sleep(%v) took %v, want %v to %v", tt.err, took, tt.minTook, tt.most)
				}
			})
		})
	}
}
