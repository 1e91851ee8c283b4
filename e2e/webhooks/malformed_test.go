package webhooks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// TestMalformedMessages_DoNotBlock posts signed but malformed or hostile messages between valid
// ones on every channel. Each malformed message must be acknowledged, so that the provider stops
// retrying, and stored as undecodable if it cannot be parsed. Each valid message must be delivered
// without a delay, no poller may get stuck, and the gateway must not restart.
func TestMalformedMessages_DoNotBlock(t *testing.T) {
	harness.ParallelUnlessFull(t)
	s, p := harness.Start(t, harness.Options{})
	corpus, senders := rawhttp.MalformedInputs(), rawhttp.MalformedSenders(s)
	t.Logf("%d malformed inputs", len(corpus))
	r := s.NewLoad(1)
	for i, channel := range []string{"telegram", "polled", "sms", "slack"} {
		r.Senders.Go(func() {
			for n, d := range corpus {
				if err := senders[channel](t.Context(), d); err != nil {
					t.Errorf("%s, %s: %v", channel, d.Name, err)
				}
				r.Send(t.Context(), r.Users[i], fmt.Sprintf("%s: %s #%d", r.Name, r.Users[i].Name, n))
			}
		})
	}
	r.Senders.Wait()
	for _, a := range s.Webhooks.StartedBetween(time.Time{}, time.Now()) {
		if !a.Accepted() && a.Status != 0 && a.Status != http.StatusServiceUnavailable { // the gateway was overloaded
			t.Errorf("%s webhook = %d, want it accepted", a.Channel, a.Status)
		}
	}
	s.RequireIdle(harness.EventTimeout)
	v := r.RequireComplete(4*len(corpus), 0)
	var slowest time.Duration
	for _, u := range r.Sent {
		slowest = max(slowest, r.App.Received(u.Text).First.Sub(u.SentAt))
	}
	t.Logf("%d valid messages, the slowest delivered after %s", v.Sent, slowest.Round(time.Millisecond))
	if limit := time.Duration(harness.Scaled(60, 5)) * time.Second; slowest > limit { // the short form shares the machine
		t.Errorf("slowest delivery of a valid message = %s, want at most %s", slowest, limit)
	}
	for _, kind := range []string{"undecodable", "unsupported"} {
		if n := s.QueryInt(`select count(*) from messages where kind = $1`, kind); n == 0 {
			t.Errorf("no message is stored as %s", kind)
		} else {
			t.Logf("%d messages are stored as %s", n, kind)
		}
	}
	if n := s.QueryInt(`select count(*) from messages where state <> 'done'`); n > 0 {
		t.Errorf("messages that failed or are unprocessed = %d, want 0", n)
	}
	select {
	case <-p.Exited:
		t.Error("the gateway exited")
	default:
	}
	s.CheckLog()

	t.Run("control: undecodable updates are rejected", func(t *testing.T) {
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.MalformedRejection
		s.Restart()
		r := s.NewLoad(1)
		s.Telegram.PushUpdate(harness.PollingBot, json.RawMessage(`{"message":{"message_id":[]}}`))
		r.Users = r.Users[1:2] // the user of the polling bot
		r.StartSending(t.Context(), 1)
		r.Senders.Wait()
		if s.WaitIdle(3 * time.Second) {
			t.Error("idle, although an undecodable update should block the updates after it")
		}
	})
}
