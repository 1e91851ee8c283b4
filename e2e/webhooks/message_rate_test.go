package webhooks

import (
	"fmt"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/gateway"
)

// TestMessageRate_Joined checks, on both engines, that a sender's messages above the limit of a minute are
// delivered together: once and in order, each answered once, also if the gateway is killed while the
// application handles the event. A claim among them is handled by itself.
func TestMessageRate_Joined(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachEngine(t, func(t *testing.T, engine harness.Engine) {
		s, p := harness.Start(t, harness.Options{Engine: engine})
		for id, code := range s.IssueCodes(1) {
			user := s.TelegramUser(harness.TelegramBot, id)
			r := s.NewLoad(0)
			send := func(n int) {
				for range n {
					r.Send(t.Context(), user, fmt.Sprintf("%s: %s #%d", r.Name, user.Name, len(r.Sent)))
				}
			}
			events := func() []*harness.ReceivedEvent { return s.App.MessagesFrom(fmt.Sprint(id)) }
			send(gateway.MessagesPerMinute)
			s.RequireIdle(time.Minute)
			if n := len(events()); n != gateway.MessagesPerMinute {
				t.Fatalf("events = %d, want one for each of %d messages", n, gateway.MessagesPerMinute)
			}

			s.App.Update(func() { s.App.Failure = "hang" })
			send(15)
			user.Send(t.Context(), "/claim "+code)
			harness.Eventually(t, "the application handles an event with several messages", func() bool {
				received := events()
				return len(received[len(received)-1].Texts()) > 1
			})
			p.Kill()
			if engine == harness.Postgres { // a gateway on SQLite releases the leases of the previous one
				s.ExpireLeases(t.Context())
			}
			s.App.Update(func() { s.App.Failure = "" })
			s.Restart()
			send(15)
			s.RequireIdle(time.Minute)
			r.RequireComplete(gateway.MessagesPerMinute+30, 0)
			if n := len(events()) - gateway.MessagesPerMinute; n < 2 || n > 12 {
				t.Errorf("events of 30 messages above the limit = %d, want a few", n)
			}
			if got := s.QueryInt(`select count(*) from messages where outcome = 'claimed'`); got != 1 {
				t.Errorf("claims = %d, want 1", got)
			}
			t.Logf("%d messages above the limit in %d events", 30, len(events())-gateway.MessagesPerMinute)
		}
		s.CheckLog()
	})
}
