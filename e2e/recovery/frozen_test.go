package recovery

import (
	"net/http"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// maxWebhookTime is the maximum time until a webhook is answered.
const maxWebhookTime = 5 * time.Second

// TestPostgresFrozen_NoLoss checks that no message is lost when Postgres does not respond for ten
// seconds without closing a connection, while users write on every channel. Every webhook must be
// answered in time, with 503, except that an SMS may be accepted, which must be in the database in
// the end. Every accepted message must be stored once.
func TestPostgresFrozen_NoLoss(t *testing.T) {
	harness.RequireFullRun(t)
	s, p := harness.Start(t, harness.Options{})
	r := s.NewLoad(harness.Scaled(4, 25))
	stop := r.SendInBackground(200 * time.Millisecond)
	s.Sleep(time.Second)
	from, to := s.Freeze("postgres", time.Duration(harness.Scaled(6, 10))*time.Second)
	s.RequireRecovery(to)
	stop()
	slowest := time.Duration(0)
	rejected := 0
	for _, a := range s.Webhooks.StartedBetween(from, to) {
		slowest = max(slowest, a.Duration())
		switch {
		case a.Duration() > maxWebhookTime:
			t.Errorf("%s webhook answered after %s, want at most %s", a.Channel, a.Duration(), maxWebhookTime)
		case a.Status == http.StatusServiceUnavailable:
			rejected++
		case a.Ended.Before(to) && (a.Channel != "sms" || !a.Accepted()):
			t.Errorf("%s webhook while the database is frozen: status %d, want 503", a.Channel, a.Status)
		}
	}
	t.Logf("%d webhooks answered with 503, the slowest webhook after %s", rejected, slowest.Round(time.Millisecond))
	if rejected == 0 {
		t.Error("rejected webhooks = 0 while the database was frozen, want some")
	}
	s.RequireIdle(harness.EventTimeout)
	r.RequireComplete(len(r.Users), app.OutboxSize)
	s.CheckLog()

	t.Run("control: acknowledged before commit", func(t *testing.T) {
		p.Kill()
		s.Fault = harness.AckBeforeCommit
		p, err := s.StartReplica(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		r := s.NewLoad(2)
		started := time.Now()
		stop := r.SendInBackground(50 * time.Millisecond)
		s.AwaitWebhooks(started)
		from, to := s.Freeze("postgres", time.Second)
		stop()
		if s.AcceptedDuring(from, to) == 0 {
			t.Error("accepted webhooks while the database was frozen = 0, want some")
		}
	})
}

// Limits for the p99 of webhooks and of deliveries while Redis does not respond. On a slower
// machine, twice the p99 before the freeze is allowed.
const (
	maxFrozenWebhook  = 500 * time.Millisecond
	maxFrozenDelivery = 2 * time.Second
)

// TestRedisFrozen_OnlyClaimsWait checks that only claims wait when Redis does not respond for ten
// seconds. All other messages must be processed without delay, and the codes must be redeemed
// afterwards.
func TestRedisFrozen_OnlyClaimsWait(t *testing.T) {
	harness.RequireFullRun(t)
	s, _ := harness.Start(t, harness.Options{})
	r := s.NewLoad(harness.Scaled(3, 6))
	claims := s.IssueCodes(harness.Scaled(4, 12))
	stop := r.SendInBackground(100 * time.Millisecond)
	s.Sleep(2 * time.Second)
	quiet := s.MeasureWindows(1, 2*time.Second)[0]
	s.Proxies["redis"].SetState(harness.ProxyFrozen)
	for user, code := range claims {
		from := simulator.TelegramUser{ID: user, FirstName: "Steve"}
		s.Telegram.SendText(harness.TelegramBot, from, "/claim "+code)
	}
	frozen := s.MeasureWindows(1, time.Duration(harness.Scaled(4, 10))*time.Second)[0]
	granted := s.QueryInt(`select count(*) from identities where verified_at is not null`)
	s.Proxies["redis"].SetState(harness.ProxyUp)
	harness.Eventually(t, "all codes are redeemed", func() bool {
		return s.QueryInt(`select count(*) from identities where verified_at is not null`) == len(claims)
	})
	delay := time.Since(frozen.To)
	stop()
	if granted > 0 {
		t.Errorf("codes redeemed without Redis = %d, want 0", granted)
	}
	t.Logf("%d codes redeemed after %s", len(claims), delay.Round(time.Millisecond))
	for _, m := range []struct {
		what             string
		quiet, took, max time.Duration
	}{
		{"webhooks", s.WebhookLatency(quiet), s.WebhookLatency(frozen), maxFrozenWebhook},
		{"deliveries", r.DeliveryLatency(quiet), r.DeliveryLatency(frozen), maxFrozenDelivery},
	} {
		t.Logf("p99 of %s %s, with Redis frozen %s", m.what, m.quiet, m.took)
		if limit := max(m.max, 2*m.quiet); m.took > limit {
			t.Errorf("p99 of %s with Redis frozen = %s, want at most %s", m.what, m.took, limit)
		}
	}
	s.RequireIdle(harness.EventTimeout)
	r.RequireComplete(len(r.Users), 0)
	s.CheckLog()
}
