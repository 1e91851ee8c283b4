package webhooks

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestRedelivery_Deduplicated checks that each message is stored, delivered and answered once
// although every provider posts every webhook three times: twice concurrently and once after up to
// ten or fifty later webhooks. Slack also reports each mention as two events, in either order. With
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
		r := s.NewLoad(harness.Scaled(4, 30))
		for i := range harness.Scaled(3, 10) {
			r.Users = append(r.Users, s.MentioningSlackUser(fmt.Sprintf("U9%d%03d", s.LoadCount, i)))
		}
		r.StartSending(t.Context(), n)
		r.Senders.Wait()
		for _, rt := range transports {
			rt.Flush()
		}
		s.RequireIdle(harness.EventTimeout)
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
