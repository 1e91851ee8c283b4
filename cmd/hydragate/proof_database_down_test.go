//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// recoverWithin is how soon after a store is back its messages must flow again.
const recoverWithin = 5 * time.Second

// TestPostgresDownIsNoLoss stops Postgres in the middle of whatever it does, and starts
// it again, while people write on every channel. While it is down nothing is taken
// (an SMS may be, which must be found in the database in the end); within five
// seconds of its return everything flows; what was taken is there once. With
// HYDRAGATE_TEST_LONG=1: twenty outages.
func TestPostgresDownIsNoLoss(t *testing.T) {
	alongside(t)
	outages := share(3, 20)
	pg := startPostgres(t)
	s, p := newStorm(t, climate{database: pg.url(pg.port)})
	r := s.gather(share(4, 10))
	hush := r.murmur(150 * time.Millisecond)
	for range outages {
		s.outage(pg)
	}
	hush()
	if !s.quiet(time.Minute) {
		t.Errorf("it is not quiet a minute after the last outage\n%s", s.tail())
	}
	r.holds(outages*len(r.folk), outages*outboxSize)
	s.healthy()

	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		p.kill()
		s.role = "hasty gateway"
		p, err := s.start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.kill()
		r := s.gather(2)
		hush := r.murmur(50 * time.Millisecond)
		s.stay(500 * time.Millisecond)
		if err := pg.halt(); err != nil {
			t.Fatal(err)
		}
		down := time.Now()
		s.stay(time.Second)
		taken := s.takenBetween(down, time.Now())
		if err := pg.start(); err != nil {
			t.Fatal(err)
		}
		hush()
		s.quiet(20 * time.Second)
		r.failing(func(v verdict) int { return min(v.lost, taken) })
	})
}

// murmur lets everybody talk, a message each so often, until they are hushed.
func (r *round) murmur(every time.Duration) (hush func()) {
	ctx, stop := context.WithCancel(r.t.Context())
	r.pace = each(every)
	r.talk(ctx, 1<<30)
	return func() {
		stop()
		r.talks.Wait()
	}
}

// outage is one stop and start of Postgres, and what is true around it.
func (s *storm) outage(pg *ownPostgres) {
	s.t.Helper()
	s.stay(200*time.Millisecond + rand.N(400*time.Millisecond))
	if err := pg.halt(); err != nil {
		s.t.Fatal(err)
	}
	down := time.Now()
	s.stay(500*time.Millisecond + rand.N(500*time.Millisecond))
	ups := time.Now()
	if n := s.takenBetween(down, ups); n > 0 {
		s.t.Errorf("%d messages were taken while the database was down", n)
	}
	refused := 0
	for _, a := range s.hooks.between(down, ups) {
		if a.status == 503 {
			refused++
		} else if a.channel != "sms" || a.status != 200 {
			s.t.Errorf("a hook of %s is answered %d while the database is down", a.channel, a.status)
		}
	}
	if refused == 0 {
		s.t.Errorf("nobody wrote while the database was down")
	}
	if err := pg.start(); err != nil {
		s.t.Fatal(err)
	}
	s.recovers(time.Now())
}

// takenBetween counts the webhooks taken in a time in which nothing can be stored, but
// for SMS: what was taken of those is looked for in the end.
func (s *storm) takenBetween(from, to time.Time) (n int) {
	for _, a := range s.hooks.between(from, to) {
		if a.taken() && a.channel != "sms" {
			n++
		}
	}
	return n
}

// recovers sees that every way in works soon after the database is back.
func (s *storm) recovers(up time.Time) {
	s.t.Helper()
	latest := time.Duration(0)
	for _, channel := range []string{"telegram", "sms", "slack"} {
		s.within(recoverWithin, up, "the first hook of "+channel+" is taken", func() (bool, time.Time) {
			at, ok := s.hooks.firstTaken(channel, up)
			latest = max(latest, at.Sub(up))
			return ok, at
		})
	}
	s.within(recoverWithin, up, "the first polled message is handed over", func() (bool, time.Time) {
		at, ok := s.ear.firstAfter(polledBot, up)
		latest = max(latest, at.Sub(up))
		return ok, at
	})
	s.t.Logf("all flows again %s after it is back", latest.Round(time.Millisecond))
}

// within waits for something, which must have happened so soon after a time.
func (s *storm) within(d time.Duration, since time.Time, what string, happened func() (bool, time.Time)) {
	s.t.Helper()
	var at time.Time
	eventually(s.t, what, func() (ok bool) {
		ok, at = happened()
		return ok
	})
	if took := at.Sub(since); took > d {
		s.t.Errorf("%s after %s; want within %s", what, took, d)
	}
}
