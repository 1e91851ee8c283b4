//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestThriceIsOnce lets every provider post every webhook three times: twice at the same
// time, and once more among the fifty that come after. Slack tells of a mention as a
// message and as a mention too, in either order. Everything is stored once, heard once
// and answered once. With HYDRAGATE_TEST_LONG=1: five thousand messages.
func TestThriceIsOnce(t *testing.T) {
	alongside(t)
	var all []*thrice
	s, _ := newStorm(t, climate{through: func(way http.RoundTripper) http.RoundTripper {
		th := &thrice{way: way, ctx: t.Context()}
		all = append(all, th)
		return th
	}})
	round := func(n int) *round {
		r := s.gather(share(8, 30))
		for i := range share(4, 10) {
			r.folk = append(r.folk, s.mentioning(fmt.Sprintf("U9%d%03d", s.rounds, i)))
		}
		r.talk(t.Context(), n)
		r.talks.Wait()
		for _, th := range all {
			th.rest()
		}
		if !s.quiet(2 * time.Minute) {
			t.Errorf("it is not quiet two minutes after\n%s", s.tail())
		}
		return r
	}
	n := share(8, 40)
	r := round(n)
	v := r.holds(n*len(r.folk)*3/4, 0) // of those of Telegram that are polled there is one
	if v.again > 0 || v.said != v.taken {
		t.Errorf("the agent was called again %d times, and %d of %d messages were taken", v.again, v.taken, v.said)
	}
	t.Logf("%d webhooks were posted", len(s.hooks.begun(time.Time{}, time.Now())))
	s.healthy()

	t.Run("control: without the keys of messages", func(t *testing.T) {
		s.exec(`drop index messages_key`)
		s.exec(`drop index messages_alt_key`)
		round(2).failing(func(v verdict) int { return min(v.stacked, v.echoes) })
	})
}

// thrice is a provider that posts everything three times.
type thrice struct {
	way http.RoundTripper
	ctx context.Context

	mu    sync.Mutex
	later []*http.Request
	posts sync.WaitGroup
}

// shuffled is among how many the third of a webhook comes.
const shuffled = 50

// RoundTrip posts r and a copy of it at once, and one of the copies kept from before.
func (th *thrice) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	again := func() *http.Request {
		c := r.Clone(th.ctx)
		c.Body = io.NopCloser(bytes.NewReader(body))
		return c
	}
	th.post(again())
	th.mu.Lock()
	th.later = append(th.later, again())
	var late *http.Request
	if n := len(th.later); n > shuffled {
		i := rand.N(n)
		late, th.later[i] = th.later[i], th.later[n-1]
		th.later = th.later[:n-1]
	}
	th.mu.Unlock()
	if late != nil {
		th.post(late)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return th.way.RoundTrip(r)
}

func (th *thrice) post(r *http.Request) {
	th.posts.Go(func() {
		if res, err := th.way.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}

// rest posts what is left, and waits until all is answered.
func (th *thrice) rest() {
	th.mu.Lock()
	for _, r := range th.later {
		th.post(r)
	}
	th.later = nil
	th.mu.Unlock()
	th.posts.Wait()
}

// mentioning is somebody who mentions the bot in a room: Slack tells of it twice, under
// two ids, one time in this order and one time in the other.
func (s *storm) mentioning(id string) talker {
	said := 0
	return talker{id, func(ctx context.Context, text string) func() bool {
		said++
		kinds := []string{"message", "app_mention"}
		if said%2 == 0 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), rand.N(1_000_000))
		taken := false
		for _, kind := range kinds {
			event, _ := json.Marshal(map[string]string{"type": kind, "user": id, "text": "<@U0BOT> " + text, "ts": ts, "event_ts": ts, "channel": slackRoom, "team": slackTeam})
			d, err := s.slack.Event(ctx, slackApp, event)
			taken = taken || err == nil && d.Taken()
		}
		return func() bool { return taken }
	}}
}
