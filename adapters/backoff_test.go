package adapters

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff_Next(t *testing.T) {
	p := NewBackoff(time.Second, 10*time.Second)
	within := func(d, least, most time.Duration) {
		t.Helper()
		if d < least || d > most {
			t.Errorf("a wait of %s; want %s to %s", d, least, most)
		}
	}
	within(p.Next(), time.Second/2, 3*time.Second/2)
	for range 20 {
		within(p.Next(), time.Second/2, 15*time.Second)
	}
	within(p.Next(), 5*time.Second, 15*time.Second)
	p.Reset()
	within(p.Next(), time.Second/2, 3*time.Second/2)
}

func TestBackoff_Sleep(t *testing.T) {
	odd := errors.New("odd")
	for _, tt := range []struct {
		name        string
		err         error
		ended       bool // ctx, before
		ends        bool // ctx, after a second
		want        error
		least, most time.Duration
	}{
		{name: "AsLongAsItsTurnIs", err: &SendError{Reason: Unreachable}, least: 5 * time.Second, most: 15 * time.Second},
		{name: "AsLongAsIsAskedFor", err: &SendError{Reason: Throttled, RetryAfter: time.Minute}, least: time.Minute, most: time.Minute},
		{name: "UntilItEnds", err: &SendError{Reason: Throttled, RetryAfter: time.Minute}, ends: true, least: time.Second, most: time.Second},
		{name: "EndedBefore", err: &SendError{Reason: Unreachable}, ended: true, want: context.Canceled},
		{name: "CredentialsNobodyKnows", err: &SendError{Reason: BadSecret}, want: &SendError{Reason: BadSecret}},
		{name: "NoneOfTheProviders", err: odd, want: odd},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancel(t.Context())
				defer end()
				if tt.ended {
					end()
				}
				if tt.ends {
					time.AfterFunc(time.Second, end)
				}
				began := time.Now()
				err := NewBackoff(10*time.Second, time.Minute).Sleep(ctx, slog.New(slog.DiscardHandler), Endpoint{ID: "seat"}, tt.err)
				if (err == nil) != (tt.want == nil) || err != nil && err.Error() != tt.want.Error() {
					t.Errorf("%v; want %v", err, tt.want)
				}
				if took := time.Since(began); took < tt.least || took > tt.most {
					t.Errorf("it took %s; want %s to %s", took, tt.least, tt.most)
				}
			})
		})
	}
}
