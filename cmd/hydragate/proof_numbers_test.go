//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
)

// quietDays is longer than Telegram remembers where it was with its numbers.
const quietDays = 8

// TestTelegramNumbersStartOver lets Telegram draw the numbers of its updates anew while
// the gateway keeps the place where it was: lower after a quiet week, the very same
// ones again, and from one with a new token. Every message arrives, once. With
// HYDRAGATE_TEST_LONG=1: a hundred each time.
func TestTelegramNumbersStartOver(t *testing.T) {
	alongside(t)
	n := share(20, 100)
	s, p := newStorm(t, climate{})
	tells := func(from int64) {
		t.Helper()
		r := s.numbered(from)
		r.talk(t.Context(), n)
		r.talks.Wait()
		if !s.quiet(time.Minute) {
			t.Errorf("Telegram still has %d updates", len(s.telegram.Pending(polledBot)))
		}
		r.holds(n, 0)
	}
	tells(900_000_000)
	for _, from := range []int64{1000, 1000, 900_000_500} { // lower, the very same, and higher
		p.kill()
		s.daysPass(quietDays)
		p = s.again()
		tells(from)
	}
	s.telegram.AddBot(polledToken, "gone_bot")
	rotated := polledToken[:len(polledToken)-4] + "ABCD"
	s.telegram.AddBot(rotated, polledBot)
	s.connect(s.polled, "telegram", map[string]string{"bot_token": rotated, "mode": "polling"})
	tells(1)
	s.healthy()

	t.Run("control: a place is believed for ever", func(t *testing.T) {
		p.kill()
		s.daysPass(quietDays)
		s.exec(`update endpoints set poll_cursor = '900000000' || substr(poll_cursor, strpos(poll_cursor, '@')) where instance_id = $1`, s.polled)
		s.role = "deaf gateway"
		s.again()
		r := s.numbered(2000)
		r.talk(t.Context(), 5)
		r.talks.Wait()
		s.quiet(10 * time.Second)
		r.failing(func(v verdict) int { return v.lost })
	})
}

// numbered is a round of one person whose messages come in updates with numbers from
// one on.
func (s *storm) numbered(from int64) *round {
	r := s.gather(0)
	var next atomic.Int64
	r.folk = []talker{{fmt.Sprintf("%s from %d", polledBot, from), func(_ context.Context, text string) func() bool {
		i := next.Add(1) - 1
		quoted, _ := json.Marshal(text)
		update := s.telegram.Push(polledBot, fmt.Appendf(nil,
			`{"update_id":%d,"message":{"message_id":%d,"date":%d,"text":%s,"from":{"id":300000,"is_bot":false,"first_name":"Somebody"},"chat":{"id":300000,"type":"private","first_name":"Somebody"}}}`,
			from+i, 10_000_000+int64(s.rounds)*1000+i, time.Now().Unix(), quoted))
		return func() bool { return s.telegram.Delivered(update) }
	}}}
	return r
}

// daysPass makes the place where Telegram was polled last so many days old.
func (s *storm) daysPass(days int) {
	s.t.Helper()
	s.exec(`update endpoints set poll_until = now(),
		poll_cursor = split_part(poll_cursor, '@', 1) || '@' || (split_part(poll_cursor, '@', 2)::bigint - $2 * 86400) || '@' || split_part(poll_cursor, '@', 3)
		where instance_id = $1`, s.polled, days)
	s.leasesEnd(s.t.Context())
}

// again starts a gateway in place of one that ended.
func (s *storm) again() *mortal {
	s.t.Helper()
	p, err := s.start(s.t.Context())
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.tail())
	}
	s.t.Cleanup(p.kill)
	return p
}

// beDeaf makes a gateway believe that no time has passed since it polled last.
func beDeaf(p *parts, s *settings) error {
	p.channels.Adapters[adapters.Telegram] = &telegram.Adapter{APIURL: s.TelegramAPIURL, Now: func() time.Time { return time.Now().AddDate(0, 0, -quietDays) }}
	return nil
}
