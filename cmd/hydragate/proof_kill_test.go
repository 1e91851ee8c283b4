//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestNothingIsLostOrDoubled kills the gateway again and again while people claim,
// crashes Postgres, empties Redis and puts older copies of it back. A right code in
// time is granted, once; when Redis lost its proof the person is told so, and is never
// told that the code was wrong. With HYDRAGATE_TEST_LONG=1 it goes on until there were
// a thousand claims, three hundred kills, ten crashes and a hundred copies.
func TestNothingIsLostOrDoubled(t *testing.T) {
	alongside(t)
	want := toll{claims: 60, kills: 20, crashes: 2, copies: 12}
	if long() {
		want = toll{claims: 1000, kills: 300, crashes: 10, copies: 100}
	}
	r := newRuin(t, "serve")
	r.limit = want
	r.endure(t)
	t.Log(r)
	if r.wrong.Load() > 0 || r.lost.Load() > 0 || r.doubled(t) > 0 {
		t.Errorf("right codes in time: %d called wrong, %d lost without cause; %d granted twice", r.wrong.Load(), r.lost.Load(), r.doubled(t))
	}
	r.heldNowhere(t)
}

// TestConsumingFirstLosesClaims is the control: the same people and the same kills,
// and a gateway whose comparison consumes the proof. It must lose some.
func TestConsumingFirstLosesClaims(t *testing.T) {
	r := newRuin(t, "naive gateway")
	r.limit = toll{claims: 400, kills: 200}
	r.enough = func() bool { return r.wrong.Load()+r.lost.Load() > 0 }
	r.endure(t)
	t.Log(r)
	if r.wrong.Load()+r.lost.Load() == 0 {
		t.Error("the test does not see that claims are lost when a comparison consumes the proof")
	}
}

// A toll is how much of everything there is to be.
type toll struct{ claims, kills, crashes, copies int64 }

// endure lets people claim and everything else break until the toll is paid.
func (r *ruin) endure(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), r.patience())
	defer stop()
	chaos, calm := context.WithCancel(ctx)
	defer calm()
	var breaking, claiming sync.WaitGroup
	breaking.Go(func() { r.mortality(chaos, ctx) })
	if r.limit.copies > 0 {
		breaking.Go(func() { r.failovers(chaos) })
	}
	if r.limit.crashes > 0 {
		breaking.Go(func() { r.crashes(chaos) })
	}
	for range 8 {
		claiming.Go(func() {
			for !r.paid() && ctx.Err() == nil {
				r.claim(ctx, r.begun.Add(1))
			}
		})
	}
	claiming.Wait()
	calm()
	stop()
	breaking.Wait()
	if !r.paid() {
		h := &proofHouse{t: t, sql: r.sql}
		t.Errorf("not done in time: %s\nmessages left: %q\nlanes: %q\nTelegram still has %d",
			r, h.texts(`select concat_ws(' ', state, sender_id, attempts, received_at, text) from messages where state <> 'done'`),
			h.texts(`select concat_ws(' ', kind, holder, due_at, lease_until, now()) from lanes where due_at is not null`), len(r.telegram.Pending(botName)))
	}
}

func (r *ruin) patience() time.Duration {
	if long() {
		return 2 * time.Hour
	}
	return 4 * time.Minute
}

func (r *ruin) paid() bool {
	if r.enough != nil && r.enough() {
		return true
	}
	return r.done.Load() >= r.limit.claims && r.killed.Load() >= r.limit.kills && r.crashed.Load() >= r.limit.crashes && r.copied.Load() >= r.limit.copies
}

func (r *ruin) String() string {
	return fmt.Sprintf("%d claims, %d kills, %d crashes of Postgres, %d Redis emptied or put back; %d told that the proof was lost, %d of them without cause; %d right codes called wrong",
		r.done.Load(), r.killed.Load(), r.crashed.Load(), r.copied.Load(), r.told.Load(), r.lost.Load(), r.wrong.Load())
}

// mortality runs the gateway and kills it, 30 to 150 ms after it began to listen.
func (r *ruin) mortality(ctx, life context.Context) {
	for life.Err() == nil {
		p, err := r.start(life)
		if err != nil {
			continue // the database is down
		}
		lifespan := 30*time.Millisecond + rand.N(120*time.Millisecond)
		if r.limit.kills > 0 && r.killed.Load() >= r.limit.kills && !long() {
			lifespan = time.Minute // let the rest of the people get through, on a busy machine too
		}
		select {
		case <-time.After(lifespan):
		case <-p.ended:
		case <-ctx.Done():
		}
		p.kill()
		r.killed.Add(1)
		r.leasesEnd(life)
		if ctx.Err() != nil {
			return
		}
	}
}

// leasesEnd lets the time pass that leases of the dead still hold.
func (r *ruin) leasesEnd(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := r.sql.ExecContext(ctx, `update lanes set lease_until = now(), due_at = now() - interval '1 second' where lease_until > now()`)
		if err == nil {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// failovers empties Redis, or puts an older copy of it back.
func (r *ruin) failovers(ctx context.Context) {
	var older []copied
	for ctx.Err() == nil {
		select {
		case <-time.After(100*time.Millisecond + rand.N(500*time.Millisecond)):
		case <-ctx.Done():
			return
		}
		if c, err := copyRedis(ctx, r.redis); err == nil {
			older = append(older, c)
		}
		older = older[max(0, len(older)-5):]
		if r.copied.Load() >= r.limit.copies && (!long() || rand.N(4) > 0) {
			continue
		}
		r.epoch.Add(1)
		var err error
		if rand.N(4) == 0 {
			err = r.redis.FlushAll(ctx).Err()
		} else {
			err = older[rand.N(len(older))].restore(ctx, r.redis)
		}
		r.epoch.Add(1)
		if err == nil {
			r.copied.Add(1)
		}
	}
}

func (r *ruin) crashes(ctx context.Context) {
	for ctx.Err() == nil && r.crashed.Load() < r.limit.crashes {
		select {
		case <-time.After(3*time.Second + rand.N(4*time.Second)):
		case <-ctx.Done():
			return
		}
		if err := r.postgres.crash(); err != nil {
			r.t.Error(err)
			return
		}
		r.crashed.Add(1)
	}
}

// A count is what the ledger of the proof holds.
type count struct {
	begun, done             atomic.Int64
	killed, crashed, copied atomic.Int64
	epoch                   atomic.Int64 // changes with every change made to Redis
	told, lost, wrong       atomic.Int64
}
