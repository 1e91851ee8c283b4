package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestTelegramUpdateIDs_Reset lets Telegram draw the numbers of its updates anew while
// the gateway keeps the place where it was: lower after a quiet week, the very same
// ones again, and from one with a new token. Every message arrives, once. With
// HYDRAGATE_TEST_LONG=1: a hundred each time.
func TestTelegramUpdateIDs_Reset(t *testing.T) {
	harness.ParallelUnlessFull(t)
	n := harness.Scaled(20, 100)
	s, p := harness.Start(t, harness.Options{})
	tells := func(from int64) {
		t.Helper()
		r := numberedRound(s, from)
		r.StartSending(t.Context(), n)
		r.Senders.Wait()
		if !s.WaitIdle(time.Minute) {
			t.Errorf("Telegram still has %d updates", len(s.Telegram.PendingUpdates(harness.PollingBot)))
		}
		r.RequireComplete(n, 0)
	}
	tells(900_000_000)
	for _, from := range []int64{1000, 1000, 900_000_500} { // lower, the very same, and higher
		p.Kill()
		agePollCursor(s, harness.StaleCursorDays)
		p = s.Restart()
		tells(from)
	}
	s.Telegram.AddBot(harness.PollingToken, "gone_bot")
	rotated := harness.PollingToken[:len(harness.PollingToken)-4] + "ABCD"
	s.Telegram.AddBot(rotated, harness.PollingBot)
	s.ConnectChannel(s.PollingInstanceID, "telegram", map[string]string{"bot_token": rotated, "mode": "polling"})
	tells(1)
	s.CheckLog()

	t.Run("control: a place is believed for ever", func(t *testing.T) {
		p.Kill()
		agePollCursor(s, harness.StaleCursorDays)
		s.Exec(`update endpoints set poll_cursor = '900000000' || substr(poll_cursor, strpos(poll_cursor, '@')) where instance_id = $1`, s.PollingInstanceID)
		s.Fault = harness.StalePollClock
		s.Restart()
		r := numberedRound(s, 2000)
		r.StartSending(t.Context(), 5)
		r.Senders.Wait()
		s.WaitIdle(10 * time.Second)
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// numberedRound is a round of one person whose messages come in updates with numbers from
// one on.
func numberedRound(s *harness.Harness, from int64) *harness.MessageLoad {
	r := s.NewLoad(0)
	var next atomic.Int64
	r.Users = []harness.SimulatedUser{{Name: fmt.Sprintf("%s from %d", harness.PollingBot, from), Send: func(_ context.Context, text string) func() bool {
		i := next.Add(1) - 1
		quoted, _ := json.Marshal(text)
		update := s.Telegram.PushUpdate(harness.PollingBot, fmt.Appendf(nil,
			`{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%s,"from":{"id":300000,"is_bot":false,"first_name":"Somebody"},"chat":{"id":300000,"type":"private","first_name":"Somebody"}}}`,
			from+i, 10_000_000+int64(s.LoadCount)*1000+i, time.Now().Unix(), quoted))
		return func() bool { return s.Telegram.Delivered(update) }
	}}}
	return r
}

// agePollCursor makes the place where Telegram was polled last so many days old.
func agePollCursor(s *harness.Harness, days int) {
	s.T.Helper()
	s.Exec(`update endpoints set poll_until = now(),
		poll_cursor = split_part(poll_cursor, '@', 1) || '@' || (split_part(poll_cursor, '@', 2)::bigint - $2 * 86400) || '@' || split_part(poll_cursor, '@', 3)
		where instance_id = $1`, s.PollingInstanceID, days)
	s.ExpireLeases(s.T.Context())
}
