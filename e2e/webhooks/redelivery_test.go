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

// TestRedelivery_Deduplicated lets every provider post every webhook three times: twice at the same
// time, and once more among the fifty that come after. Slack tells of a mention as a
// message and as a mention too, in either order. Everything is stored once, heard once
// and answered once. With HYDRAGATE_TEST_LONG=1: five thousand messages.
func TestRedelivery_Deduplicated(t *testing.T) {
	harness.ParallelUnlessFull(t)
	var all []*harness.RedeliveringTransport
	s, _ := harness.Start(t, harness.Options{WebhookTransport: func(way http.RoundTripper) http.RoundTripper {
		th := &harness.RedeliveringTransport{Next: way, Ctx: t.Context()}
		all = append(all, th)
		return th
	}})
	round := func(n int) *harness.MessageLoad {
		r := s.NewLoad(harness.Scaled(8, 30))
		for i := range harness.Scaled(4, 10) {
			r.Users = append(r.Users, mentioningUser(s, fmt.Sprintf("U9%d%03d", s.LoadCount, i)))
		}
		r.StartSending(t.Context(), n)
		r.Senders.Wait()
		for _, th := range all {
			th.Flush()
		}
		if !s.WaitIdle(2 * time.Minute) {
			t.Errorf("it is not quiet two minutes after\n%s", s.LogTail())
		}
		return r
	}
	n := harness.Scaled(8, 40)
	r := round(n)
	v := r.RequireComplete(n*len(r.Users)*3/4, 0) // of those of Telegram that are polled there is one
	if v.Redelivered > 0 || v.Sent != v.Accepted {
		t.Errorf("the agent was called again %d times, and %d of %d messages were taken", v.Redelivered, v.Accepted, v.Sent)
	}
	t.Logf("%d webhooks were posted", len(s.Webhooks.StartedBetween(time.Time{}, time.Now())))
	s.CheckLog()

	t.Run("control: without the keys of messages", func(t *testing.T) {
		s.Exec(`drop index messages_key`)
		s.Exec(`drop index messages_alt_key`)
		round(2).RequireFault(func(v harness.LoadReport) int { return min(v.StoredTwice, v.ExtraReplies) })
	})
}

// mentioningUser is somebody who mentions the bot in a room: Slack tells of it twice, under
// two ids, one time in this order and one time in the other.
func mentioningUser(s *harness.Harness, id string) harness.SimulatedUser {
	said := 0
	return harness.SimulatedUser{Name: id, Send: func(ctx context.Context, text string) func() bool {
		said++
		kinds := []string{"message", "app_mention"}
		if said%2 == 0 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		ts := fmt.Sprintf("%d.%06d", time.Now().Unix(), rand.N(1_000_000))
		taken := false
		for _, kind := range kinds {
			event, _ := json.Marshal(map[string]string{"type": kind, "user": id, "text": "<@U0BOT> " + text, "ts": ts, "event_ts": ts, "channel": harness.SlackChannelID, "team": harness.SlackTeamID})
			d, err := s.Slack.SendEvent(ctx, harness.SlackAppID, event)
			taken = taken || err == nil && d.Accepted()
		}
		return func() bool { return taken }
	}}
}
