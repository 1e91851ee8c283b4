package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestRedelivery_Deduplicated checks that each message is stored, delivered and answered once
// although every provider posts every webhook three times: twice concurrently and once after up to
// fifty later webhooks. Slack also reports each mention as two events, in either order. With
// HYDRAGATE_TEST_LONG=1 the test sends five thousand messages.
func TestRedelivery_Deduplicated(t *testing.T) {
	harness.ParallelUnlessFull(t)
	var transports []*harness.RedeliveringTransport
	s, _ := harness.Start(t, harness.Options{WebhookTransport: func(next http.RoundTripper) http.RoundTripper {
		rt := &harness.RedeliveringTransport{Next: next, Ctx: t.Context()}
		transports = append(transports, rt)
		return rt
	}})
	round := func(n int) *harness.MessageLoad {
		r := s.NewLoad(harness.Scaled(8, 30))
		for i := range harness.Scaled(4, 10) {
			r.Users = append(r.Users, mentioningUser(s, fmt.Sprintf("U9%d%03d", s.LoadCount, i)))
		}
		r.StartSending(t.Context(), n)
		r.Senders.Wait()
		for _, rt := range transports {
			rt.Flush()
		}
		if !s.WaitIdle(2 * time.Minute) {
			t.Errorf("not idle after 2 minutes\n%s", s.LogTail())
		}
		return r
	}
	n := harness.Scaled(8, 40)
	r := round(n)
	v := r.RequireComplete(n*len(r.Users)*3/4, 0) // only one of the Telegram users is polled
	if v.Redelivered > 0 || v.Sent != v.Accepted {
		t.Errorf("redelivered events = %d, accepted messages = %d, want 0 and %d", v.Redelivered, v.Accepted, v.Sent)
	}
	t.Logf("posted %d webhooks", len(s.Webhooks.StartedBetween(time.Time{}, time.Now())))
	s.CheckLog()

	t.Run("control: no deduplication index", func(t *testing.T) {
		s.Exec(`drop index messages_key`)
		s.Exec(`drop index messages_alt_key`)
		round(2).RequireFault(func(v harness.LoadReport) int { return min(v.StoredTwice, v.ExtraReplies) })
	})
}

// mentioningUser returns a Slack user who mentions the bot in a channel. Slack reports each
// mention as a message event and an app_mention event with different event IDs; the order
// alternates.
func mentioningUser(s *harness.Harness, id string) harness.SimulatedUser {
	count := 0
	return harness.SimulatedUser{Name: id, Send: func(ctx context.Context, text string) func() bool {
		count++
		kinds := []string{"message", "app_mention"}
		if count%2 == 0 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), rand.N(1_000_000))
		accepted := false
		for _, kind := range kinds {
			event, _ := json.Marshal(map[string]string{
				"type": kind, "user": id, "text": "<@U0BOT> " + text, "ts": ts, "event_ts": ts,
				"channel": harness.SlackChannelID, "team": harness.SlackTeamID,
			})
			d, err := s.Slack.SendEvent(ctx, harness.SlackAppID, event)
			accepted = accepted || err == nil && d.Accepted()
		}
		return func() bool { return accepted }
	}}
}
