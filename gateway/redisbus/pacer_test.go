package redisbus

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters"
	"hydragate/gateway/outbox"
)

// realRedis returns clients of the Redis of the tests, and a name that no other test uses.
func realRedis(t *testing.T, n int) (clients []redis.UniversalClient, bot string) {
	t.Helper()
	url := os.Getenv("HYDRAGATE_TEST_REDIS")
	if url == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS is not set: run make test")
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		c := redis.NewClient(opts)
		t.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
	}
	return clients, fmt.Sprintf("telegram:%d", time.Now().UnixNano())
}

// TestPacer_SameAsLocal compares the scripts with outbox.LocalPacer on random sequences of sends, with a
// clock that both share.
func TestPacer_SameAsLocal(t *testing.T) {
	m := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	now := time.Unix(1_800_000_000, 0)
	shared := &Pacer{Redis: c, Log: slog.New(slog.DiscardHandler), Timeout: time.Minute}
	local := &outbox.LocalPacer{Now: func() time.Time { return now }}
	limits := adapters.SendLimits{
		Bot: adapters.Rate{Every: 50 * time.Millisecond, Burst: 5}, Chat: adapters.Rate{Every: time.Second, Burst: 2},
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same sequence in each run
	probes, waits := 0, 0
	for i := range 600 {
		step := time.Duration(random.IntN(400)) * time.Millisecond
		if i%500 == 499 {
			step = time.Minute
		}
		now = now.Add(step)
		m.SetTime(now)
		m.FastForward(step)
		target := outbox.Target{
			Bot: "telegram:1", Chat: fmt.Sprint(random.IntN(4)), Notice: random.IntN(5) == 0, Limits: limits,
		}
		g, wait := shared.Reserve(t.Context(), target)
		wantGrant, wantWait := local.Reserve(t.Context(), target)
		if g != wantGrant || wait != wantWait {
			t.Fatalf("step %d: Reserve(%+v) = %+v, %v, the local pacer returns %+v, %v", i, target, g, wait, wantGrant, wantWait)
		}
		if wait > 0 {
			waits++
			continue
		}
		if g.Probe {
			probes++
		}
		result := outbox.SendOutcome{
			Throttled: random.IntN(8) == 0, RetryAfter: time.Duration(random.IntN(5000)) * time.Millisecond,
			Unclear: random.IntN(10) == 0,
		}
		shared.Report(t.Context(), target, g, result)
		local.Report(t.Context(), target, g, result)
	}
	if probes < 10 || waits < 100 {
		t.Errorf("%d probes and %d waits, so the comparison says little", probes, waits)
	}
}

// TestPacer_Replicas tests that three replicas share a hold and its probe.
func TestPacer_Replicas(t *testing.T) {
	clients, bot := realRedis(t, 3)
	var replicas []*Pacer
	for _, c := range clients {
		replicas = append(replicas, &Pacer{Redis: c, Log: slog.New(slog.DiscardHandler), Timeout: time.Minute})
	}
	target := outbox.Target{Bot: bot, Chat: "a"}
	g, wait := replicas[0].Reserve(t.Context(), target)
	if wait != 0 {
		t.Fatalf("wait = %v, want 0", wait)
	}
	begun := time.Now()
	replicas[0].Report(t.Context(), target, g, outbox.SendOutcome{Throttled: true, RetryAfter: time.Second})
	var probes atomic.Int64
	var wg sync.WaitGroup
	for _, p := range replicas {
		for range 8 {
			wg.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for after := 0; after < 20; { // calls of this goroutine after the probe
					if probes.Load() > 0 {
						after++
					}
					if g, wait := p.Reserve(t.Context(), target); wait == 0 {
						early := time.Now().Before(begun.Add(time.Second))
						if early || !g.Probe {
							t.Errorf("granted %+v, before the end of the hold: %v", g, early)
						}
						probes.Add(1)
					}
					<-tick.C
				}
			})
		}
	}
	wg.Wait()
	if probes.Load() != 1 {
		t.Errorf("%d probes, want 1", probes.Load())
	}
	if ttl, err := clients[0].PTTL(t.Context(), "hydragate:pace:{"+bot+"}:a").Result(); err != nil || ttl <= 0 {
		t.Errorf("PTTL() = %v, %v: the state would never expire", ttl, err)
	}
}

// TestPacer_RedisUnavailable tests that a replica paces by itself while Redis is unavailable, with the
// holds and sends that it knows, and does not wait for Redis each time.
func TestPacer_RedisUnavailable(t *testing.T) {
	m := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	p := &Pacer{Redis: c, Log: slog.New(slog.DiscardHandler), Timeout: time.Minute}
	limits := adapters.SendLimits{Chat: adapters.Rate{Every: time.Hour, Burst: 2}}
	held, free := outbox.Target{
		Bot:  "telegram:1",
		Chat: "limited",
	}, outbox.Target{
		Bot:    "telegram:1",
		Chat:   "free",
		Limits: limits,
	}
	g, _ := p.Reserve(t.Context(), held)
	p.Report(t.Context(), held, g, outbox.SendOutcome{Throttled: true, RetryAfter: time.Hour})
	used := outbox.Target{Bot: "telegram:2", Chat: "used", Limits: limits}
	for range 2 {
		p.Reserve(t.Context(), used)
	}
	seen, other := outbox.Target{Bot: "telegram:3", Chat: "seen"}, &Pacer{Redis: c, Log: p.Log, Timeout: time.Minute}
	g, _ = other.Reserve(t.Context(), seen)
	other.Report(t.Context(), seen, g, outbox.SendOutcome{Throttled: true, RetryAfter: time.Hour})
	p.Reserve(t.Context(), seen)
	m.Close()
	for _, target := range []outbox.Target{held, used, seen} {
		if _, wait := p.Reserve(t.Context(), target); wait < 59*time.Minute {
			t.Errorf("wait of the chat that is %s = %v, want about an hour", target.Chat, wait)
		}
	}
	for i, want := range []bool{false, false, true} {
		if _, wait := p.Reserve(t.Context(), free); (wait > 0) != want {
			t.Errorf("send %d: wait = %v, want a wait: %v", i+1, wait, want)
		}
	}
}
