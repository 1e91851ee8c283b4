//go:build unix

package main

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"hydragate/adapters/simulator"
)

// hookAnswerTime is the longest that a provider may wait for an answer.
const hookAnswerTime = 5 * time.Second

// TestPostgresFrozen lets nothing through to Postgres and back for ten seconds, without
// closing a connection, while people write on every channel. Every webhook is answered
// in time, and with 503 (an SMS may be taken, which must be found in the database in
// the end); what was taken is there once.
func TestPostgresFrozen(t *testing.T) {
	wholeOnly(t)
	s, p := newStorm(t, climate{})
	r := s.gather(share(4, 25))
	hush := r.murmur(200 * time.Millisecond)
	s.stay(time.Second)
	from, to := s.freeze("postgres", time.Duration(share(6, 10))*time.Second)
	s.recovers(to)
	hush()
	slowest := time.Duration(0)
	refused := 0
	for _, a := range s.hooks.begun(from, to) {
		slowest = max(slowest, a.took())
		switch {
		case a.took() > hookAnswerTime:
			t.Errorf("a hook of %s is answered after %s", a.channel, a.took())
		case a.status == http.StatusServiceUnavailable:
			refused++
		case a.ended.Before(to) && (a.channel != "sms" || !a.taken()):
			t.Errorf("a hook of %s is answered %d while the database is frozen", a.channel, a.status)
		}
	}
	t.Logf("%d hooks are answered 503, the last after %s", refused, slowest.Round(time.Millisecond))
	if refused == 0 {
		t.Error("nobody wrote while the database was frozen")
	}
	if !s.quiet(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	r.holds(len(r.folk), outboxSize)
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
		from, to := s.freeze("postgres", time.Second)
		hush()
		if s.takenBetween(from, to) == 0 {
			t.Error("the check does not see that hooks are answered 200 while the database is frozen")
		}
	})
}

// freeze lets nothing through to a server for a while.
func (s *storm) freeze(server string, d time.Duration) (from, to time.Time) {
	s.wires[server].set(frozen)
	from = time.Now()
	s.stay(d)
	to = time.Now()
	s.wires[server].set(whole)
	return from, to
}

// While Redis does not answer, messages that are no claim must be taken and handed over
// as fast as this, 99 of 100; on a machine that is slower than this anyhow, not much
// slower than before.
const (
	frozenRedisHook   = 500 * time.Millisecond
	frozenRedisHandOn = 2 * time.Second
)

// TestRedisFrozen lets Redis not answer for ten seconds while people write and some
// type right codes. The others notice nothing of it, and the codes are granted
// afterwards.
func TestRedisFrozen(t *testing.T) {
	wholeOnly(t)
	s, _ := newStorm(t, climate{})
	r := s.gather(share(3, 6))
	claims := s.claimants(share(4, 12))
	hush := r.murmur(100 * time.Millisecond)
	s.stay(2 * time.Second)
	calm := time.Now()
	s.stay(2 * time.Second)
	s.wires["redis"].set(frozen)
	from := time.Now()
	for who, code := range claims {
		s.telegram.Say(telegramBot, simulator.Person{ID: who, First: "Steve"}, "/claim "+code)
	}
	s.stay(time.Duration(share(4, 10)) * time.Second)
	granted := s.count(`select count(*) from identities where verified_at is not null`)
	to := time.Now()
	s.wires["redis"].set(whole)
	eventually(t, "all codes are granted", func() bool {
		return s.count(`select count(*) from identities where verified_at is not null`) == len(claims)
	})
	thawed := time.Since(to)
	hush()
	if granted > 0 {
		t.Errorf("%d codes were granted without Redis", granted)
	}
	before, while := s.percentiles(r, calm, from), s.percentiles(r, from, to)
	t.Logf("p99 of a hook %s, with Redis frozen %s; handed over within %s, with Redis frozen %s; %d codes granted %s after it was back",
		before[0], while[0], before[1], while[1], len(claims), thawed.Round(time.Millisecond))
	if while[0] > max(frozenRedisHook, 2*before[0]) || while[1] > max(frozenRedisHandOn, 2*before[1]) {
		t.Errorf("with Redis frozen a hook takes %s and handing over %s; want %s and %s at most", while[0], while[1], frozenRedisHook, frozenRedisHandOn)
	}
	if !s.quiet(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	r.holds(len(r.folk), 0)
	s.healthy()
}

// claimants links so many people on Telegram and gives their codes.
func (s *storm) claimants(n int) (codes map[int64]string) {
	s.t.Helper()
	codes = map[int64]string{}
	for range n {
		s.claims++
		who := int64(900_000 + s.claims)
		var customer, linked struct{ ID string }
		var issued struct{ Code string }
		s.does("POST", "/v1/customers", map[string]string{"first_name": "Steve"}, http.StatusCreated, &customer)
		path := "/v1/customers/" + customer.ID + "/identities"
		s.does("POST", path, map[string]string{"channel": "telegram", "external_id": strconv.FormatInt(who, 10), "instance_id": s.instance}, http.StatusCreated, &linked)
		s.does("POST", path+"/"+linked.ID+"/claim-code", struct{}{}, http.StatusCreated, &issued)
		codes[who] = issued.Code
	}
	return codes
}

// percentiles gives how long 99 of 100 hooks took in a time, and how long after it was
// said what was said in it was handed over.
func (s *storm) percentiles(r *round, from, to time.Time) (p [2]time.Duration) {
	var hooks, handed []time.Duration
	for _, a := range s.hooks.begun(from, to) {
		hooks = append(hooks, a.took())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.said {
		if h := r.ear.heard(u.text); u.at.After(from) && u.at.Before(to) && h.calls > 0 {
			handed = append(handed, h.first.Sub(u.at))
		}
	}
	return [2]time.Duration{percentile(hooks, 0.99).Round(time.Millisecond), percentile(handed, 0.99).Round(time.Millisecond)}
}
