//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is what goes on meanwhile.
type load struct {
	r    *rotation
	stop context.CancelFunc
	all  sync.WaitGroup

	claims, signing, agentKeys, telegrams atomic.Int64
}

const loadPace = 40 * time.Millisecond

func (r *rotation) begin(t *testing.T) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{r: r, stop: stop}
	t.Cleanup(stop)
	every := func(d time.Duration, do func()) {
		l.all.Go(func() {
			pace := time.NewTicker(d)
			defer pace.Stop()
			for {
				select {
				case <-pace.C:
					do()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	every(loadPace, func() { r.delivers(r.telegramSays(770000+rand.Int64N(20), "hello")) })
	every(loadPace, func() { r.delivers(r.smsSays(r.p.twilioToken, "hello")) })
	every(loadPace, func() { r.delivers(r.slackSays(r.p.slackSecret, "hello")) })
	for range 2 {
		key, issued := r.newKey(), 0
		every(loadPace, func() {
			if issued++; issued%40 == 0 { // a member of staff issues sixty codes an hour
				key = r.newKey()
			}
			if c, ok := r.readOut(key); ok && r.typed(key, c) {
				l.claims.Add(1)
			}
		})
	}
	every(loadPace, l.repeatedCalls(r.newKey()))
	every(loadPace, func() {
		status, answer, _ := r.ask("GET", "/external/users/search?email=nobody@example.com", http.Header{"Agent-Secret-Key": {r.agentKey.Load().(string)}}, nil)
		if status != http.StatusNotFound {
			r.fails("a conversation user", status, answer)
		}
	})
	every(time.Second, func() { l.rotateSigning(ctx) })
	every(time.Second, func() { l.rotateAgentKey(ctx) })
	every(3*time.Second, func() { // slower than a gateway forgets which secret was good
		var seat struct {
			Status string `json:"status"`
		}
		if r.call(rotationKey, "POST", r.channel("telegram"), map[string]any{"bot_token": r.p.telegramToken}, &seat); seat.Status != "active" {
			r.fails("setting up Telegram", 0, []byte(seat.Status))
		}
		l.telegrams.Add(1)
	})
	return l
}

// repeatedCalls makes calls, and repeats those made before: the answer must be the same
// whatever it was sealed with.
func (l *load) repeatedCalls(key string) func() {
	type made struct{ id, body, answer string }
	var all []made
	n := 0
	post := func(id, body string) (int, string, http.Header) {
		status, answer, said := l.r.ask("POST", "/v1/customers", http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "Idempotency-Key": {id}}, []byte(body))
		return status, string(answer), said
	}
	return func() {
		n++
		if n%4 == 1 {
			m := made{id: fmt.Sprint("call ", n), body: fmt.Sprintf(`{"first_name":"Steve %d"}`, n)}
			status, answer, _ := post(m.id, m.body)
			if status != http.StatusCreated {
				l.r.fails("a call", status, []byte(answer))
				return
			}
			m.answer = answer
			all = append(all, m)
			return
		}
		m := all[rand.N(len(all))]
		if status, answer, said := post(m.id, m.body); status != http.StatusCreated || answer != m.answer || said.Get("Idempotency-Replayed") != "true" {
			l.r.fails("a repeated call", status, []byte(answer))
		}
	}
}

// switchTime is how long the owner of a runtime takes to tell it its new secret, at the
// least: what was signed before is on its way no more.
const switchTime = 2 * time.Second

func (l *load) rotateSigning(ctx context.Context) {
	var made struct {
		WebhookSecret string    `json:"webhook_secret"`
		OldGoodUntil  time.Time `json:"old_good_until"`
	}
	if !l.r.call(rotationKey, "POST", "/v1/instances/"+l.r.instance+"/webhook-secret/rotate", map[string]any{"overlap_seconds": 600}, &made) {
		return
	}
	select {
	case <-time.After(switchTime):
	case <-ctx.Done():
	}
	l.r.agent.knows(made.WebhookSecret)
	l.signing.Add(1)
}

func (l *load) rotateAgentKey(ctx context.Context) {
	var made struct {
		AgentSecretKey string `json:"agent_secret_key"`
	}
	if !l.r.call(rotationKey, "POST", "/v1/instances/"+l.r.instance+"/agent-secret-key/rotate", nil, &made) {
		return
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	l.r.agentKey.Store(made.AgentSecretKey)
	l.agentKeys.Add(1)
}

// goOn waits until so many claims more went well.
func (l *load) goOn(t *testing.T, claims int64) {
	t.Helper()
	from := l.claims.Load()
	eventually(t, "claims go on", func() bool { return l.claims.Load() >= from+claims || t.Failed() })
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
}
