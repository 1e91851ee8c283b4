package recovery

import (
	"net/http"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// maxWebhookTime is the longest that a provider may wait for an answer.
const maxWebhookTime = 5 * time.Second

// TestPostgresFrozen_NoLoss lets nothing through to Postgres and back for ten seconds, without
// closing a connection, while people write on every channel. Every webhook is answered
// in time, and with 503 (an SMS may be taken, which must be found in the database in
// the end); what was taken is there once.
func TestPostgresFrozen_NoLoss(t *testing.T) {
	harness.RequireFullRun(t)
	s, p := harness.Start(t, harness.Options{})
	r := s.NewLoad(harness.Scaled(4, 25))
	hush := r.SendInBackground(200 * time.Millisecond)
	s.Sleep(time.Second)
	from, to := s.Freeze("postgres", time.Duration(harness.Scaled(6, 10))*time.Second)
	s.RequireRecovery(to)
	hush()
	slowest := time.Duration(0)
	refused := 0
	for _, a := range s.Webhooks.StartedBetween(from, to) {
		slowest = max(slowest, a.Duration())
		switch {
		case a.Duration() > maxWebhookTime:
			t.Errorf("a hook of %s is answered after %s", a.Channel, a.Duration())
		case a.Status == http.StatusServiceUnavailable:
			refused++
		case a.Ended.Before(to) && (a.Channel != "sms" || !a.Accepted()):
			t.Errorf("a hook of %s is answered %d while the database is frozen", a.Channel, a.Status)
		}
	}
	t.Logf("%d hooks are answered 503, the last after %s", refused, slowest.Round(time.Millisecond))
	if refused == 0 {
		t.Error("nobody wrote while the database was frozen")
	}
	if !s.WaitIdle(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	r.RequireComplete(len(r.Users), app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		p.Kill()
		s.Fault = harness.AckBeforeCommit
		p, err := s.StartReplica(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		r := s.NewLoad(2)
		hush := r.SendInBackground(50 * time.Millisecond)
		s.Sleep(500 * time.Millisecond)
		from, to := s.Freeze("postgres", time.Second)
		hush()
		if s.AcceptedDuring(from, to) == 0 {
			t.Error("the check does not see that hooks are answered 200 while the database is frozen")
		}
	})
}

// While Redis does not answer, messages that are no claim must be taken and handed over
// as fast as this, 99 of 100; on a machine that is slower than this anyhow, not much
// slower than before.
const (
	maxFrozenWebhook  = 500 * time.Millisecond
	maxFrozenDelivery = 2 * time.Second
)

// TestRedisFrozen_OnlyClaimsWait lets Redis not answer for ten seconds while people write and some
// type right codes. The others notice nothing of it, and the codes are granted
// afterwards.
func TestRedisFrozen_OnlyClaimsWait(t *testing.T) {
	harness.RequireFullRun(t)
	s, _ := harness.Start(t, harness.Options{})
	r := s.NewLoad(harness.Scaled(3, 6))
	claims := s.IssueCodes(harness.Scaled(4, 12))
	hush := r.SendInBackground(100 * time.Millisecond)
	s.Sleep(2 * time.Second)
	calm := time.Now()
	s.Sleep(2 * time.Second)
	s.Proxies["redis"].SetState(harness.ProxyFrozen)
	from := time.Now()
	for who, code := range claims {
		s.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: who, FirstName: "Steve"}, "/claim "+code)
	}
	s.Sleep(time.Duration(harness.Scaled(4, 10)) * time.Second)
	granted := s.QueryInt(`select count(*) from identities where verified_at is not null`)
	to := time.Now()
	s.Proxies["redis"].SetState(harness.ProxyUp)
	harness.Eventually(t, "all codes are granted", func() bool {
		return s.QueryInt(`select count(*) from identities where verified_at is not null`) == len(claims)
	})
	thawed := time.Since(to)
	hush()
	if granted > 0 {
		t.Errorf("%d codes were granted without Redis", granted)
	}
	before, while := s.Latencies(r, calm, from), s.Latencies(r, from, to)
	t.Logf("p99 of a hook %s, with Redis frozen %s; handed over within %s, with Redis frozen %s; %d codes granted %s after it was back",
		before[0], while[0], before[1], while[1], len(claims), thawed.Round(time.Millisecond))
	if while[0] > max(maxFrozenWebhook, 2*before[0]) || while[1] > max(maxFrozenDelivery, 2*before[1]) {
		t.Errorf("with Redis frozen a hook takes %s and handing over %s; want %s and %s at most", while[0], while[1], maxFrozenWebhook, maxFrozenDelivery)
	}
	if !s.WaitIdle(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	r.RequireComplete(len(r.Users), 0)
	s.CheckLog()
}
