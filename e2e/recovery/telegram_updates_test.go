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

// TestTelegramUpdateIDs_Reset checks that every message arrives once when Telegram restarts the
// numbering of updates while the gateway has a stored cursor: with lower ids after an idle week,
// with the same ids again, with higher ids, and with ids from 1 after the token changed. With
// HYDRAGATE_TEST_LONG=1 each step sends a hundred messages.
func TestTelegramUpdateIDs_Reset(t *testing.T) {
	harness.ParallelUnlessFull(t)
	n := harness.Scaled(10, 100)
	s, p := harness.Start(t, harness.Options{})
	sendFrom := func(from int64) {
		t.Helper()
		r := numberedRound(s, from)
		r.StartSending(t.Context(), n)
		r.Senders.Wait()
		s.RequireIdle(harness.EventTimeout)
		r.RequireComplete(n, 0)
	}
	sendFrom(900_000_000)
	restartWithStaleCursor := func() {
		p.Kill()
		s.Exec(`update endpoints set poll_until = now(),
			poll_cursor = split_part(poll_cursor, '@', 1)
				|| '@' || (split_part(poll_cursor, '@', 2)::bigint - $2 * 86400)
				|| '@' || split_part(poll_cursor, '@', 3)
			where instance_id = $1`, s.PollingInstanceID, harness.StaleCursorDays)
		s.ExpireLeases(t.Context())
		p = s.Restart()
	}
	for _, from := range []int64{1000, 1000, 900_000_500} { // lower, the same, and higher
		restartWithStaleCursor()
		sendFrom(from)
	}
	s.Telegram.AddBot(harness.PollingToken, "gone_bot")
	rotated := harness.PollingToken[:len(harness.PollingToken)-4] + "ABCD"
	s.Telegram.AddBot(rotated, harness.PollingBot)
	s.ConnectChannel(s.PollingInstanceID, "telegram", map[string]string{"bot_token": rotated, "mode": "polling"})
	sendFrom(1)
	s.CheckLog()

	t.Run("control: the cursor never expires", func(t *testing.T) {
		p.Kill()
		s.Exec(`update endpoints set poll_cursor = '900000000' || substr(poll_cursor, strpos(poll_cursor, '@'))
			where instance_id = $1`, s.PollingInstanceID)
		s.Fault = harness.StalePollClock
		restartWithStaleCursor()
		r := numberedRound(s, 2000)
		r.StartSending(t.Context(), 5)
		r.Senders.Wait()
		harness.Eventually(t, "all updates are acknowledged", func() bool { return r.Report().Accepted == 5 })
		r.RequireFault(func(v harness.LoadReport) int { return v.Lost })
	})
}

// numberedRound returns a load of one user whose messages arrive in updates with ids from the
// given one on.
func numberedRound(s *harness.Harness, from int64) *harness.MessageLoad {
	r := s.NewLoad(0)
	var next atomic.Int64
	send := func(_ context.Context, text string) func() bool {
		i := next.Add(1) - 1
		quoted, _ := json.Marshal(text)
		update := s.Telegram.PushUpdate(harness.PollingBot, fmt.Appendf(nil,
			`{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%s,
				"from":{"id":300000,"is_bot":false,"first_name":"Steve"},
				"chat":{"id":300000,"type":"private","first_name":"Steve"}}}`,
			from+i, 10_000_000+int64(s.LoadCount)*1000+i, time.Now().Unix(), quoted))
		return func() bool { return s.Telegram.Delivered(update) }
	}
	r.Users = []harness.SimulatedUser{{Name: fmt.Sprintf("%s from %d", harness.PollingBot, from), Send: send}}
	return r
}
