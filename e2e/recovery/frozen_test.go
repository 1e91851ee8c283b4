package recovery

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/claim"
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

// Limits for the p99 of webhooks and of deliveries while Redis is unavailable; on a slower machine, twice the
// p99 before is allowed. A message with words that could be a code may take maxFrozenWord longer than others.
const (
	maxFrozenWebhook  = 500 * time.Millisecond
	maxFrozenDelivery = 2 * time.Second
	maxFrozenWord     = 2 * time.Second
)

// TestRedisFrozen_OnlyClaimsWait checks that only claims wait when Redis does not respond for ten
// seconds, or refuses connections. All other messages must be processed without delay, and the codes
// must be redeemed afterwards. Words that could be a code must arrive unchanged if no code is live at the
// instance, and otherwise without what could be a code.
func TestRedisFrozen_OnlyClaimsWait(t *testing.T) {
	harness.RequireFullRun(t)
	s, _ := harness.Start(t, harness.Options{})
	r := s.NewLoad(harness.Scaled(3, 6))
	stop := r.SendInBackground(100 * time.Millisecond)
	s.Sleep(2 * time.Second)
	quiet := s.MeasureWindows(1, 2*time.Second)[0]
	redeemed := 0
	for _, state := range []harness.ProxyState{harness.ProxyFrozen, harness.ProxyCut} {
		claims := s.IssueCodes(harness.Scaled(4, 12))
		words := newLookalikes(s, string(state), slices.Collect(maps.Values(claims))[0])
		s.Proxies["redis"].SetState(state)
		for user, code := range claims {
			from := simulator.TelegramUser{ID: user, FirstName: "Steve"}
			s.Telegram.SendText(harness.TelegramBot, from, "/claim "+code)
		}
		words.start()
		frozen := s.MeasureWindows(1, time.Duration(harness.Scaled(4, 10))*time.Second)[0]
		words.requireDelivered(maxFrozenWord + slices.Max(r.DeliveryLatencies(frozen)))
		countRedeemed := func() int {
			return s.QueryInt(`select count(*) from identities where verified_at is not null`) - redeemed
		}
		granted := countRedeemed()
		s.Proxies["redis"].SetState(harness.ProxyUp)
		up := time.Now()
		harness.Eventually(t, "all codes are redeemed", func() bool { return countRedeemed() == len(claims) })
		redeemed += len(claims)
		if granted > 0 {
			t.Errorf("codes redeemed without Redis = %d, want 0", granted)
		}
		t.Logf("Redis %s: %d codes redeemed %s after it", state, len(claims), time.Since(up).Round(time.Millisecond))
		for _, m := range []struct {
			what             string
			quiet, took, max time.Duration
		}{
			{"webhooks", s.WebhookLatency(quiet), s.WebhookLatency(frozen), maxFrozenWebhook},
			{"deliveries", r.DeliveryLatency(quiet), r.DeliveryLatency(frozen), maxFrozenDelivery},
		} {
			t.Logf("p99 of %s %s, with Redis %s %s", m.what, m.quiet, state, m.took)
			if limit := max(m.max, 2*m.quiet); m.took > limit {
				t.Errorf("p99 of %s with Redis %s = %s, want at most %s", m.what, state, m.took, limit)
			}
		}
	}
	stop()
	s.RequireIdle(harness.EventTimeout)
	r.RequireComplete(len(r.Users), 0)
	s.CheckLog()
}

// lookalikes are people who write words that could be a code, to an instance with live codes and to one
// without.
type lookalikes struct {
	*harness.Harness
	name, code string
	stop       func()
	senders    sync.WaitGroup
	mu         sync.Mutex
	sent       []lookalike
}

// A lookalike is a text, the text that the application must get, and when it was sent.
type lookalike struct {
	text, want string
	at         time.Time
}

func newLookalikes(s *harness.Harness, name, code string) *lookalikes {
	return &lookalikes{Harness: s, name: name, code: code}
}

// start makes people send words until requireDelivered is called.
func (l *lookalikes) start() {
	ctx, cancel := context.WithCancel(l.T.Context())
	l.stop = cancel
	texts := []lookalike{ // what remains of a text without what could be a code
		{text: "Flight", want: "[withheld]"},
		{text: "please switch now", want: "please [withheld] now"},
		{text: "thx bud", want: "[withheld]"},
		{text: "pls fix it", want: "[withheld] it"},
		{text: "my code: BCD-FGH!", want: "my code: [withheld]!"},
		{text: "my code: " + claim.Group(l.code) + "!", want: "my code: [withheld]!"},
		{text: "see <Bravo Charlie Delta, Foxtrot Golf Hotel>", want: "see <[withheld]>"},
		{text: "is anyone there?", want: "is anyone there?"},
	}
	for i := range 6 {
		bot, live := harness.TelegramBot, true
		if i%2 == 1 {
			bot, live = harness.PollingBot, false
		}
		user := l.TelegramUser(bot, int64(500_000+i))
		l.senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w := texts[n%len(texts)]
				if !live {
					w.want = w.text
				}
				// The prefix makes the text unique, and holds nothing that could be a code.
				prefix := strings.NewReplacer("1", "a", "2", "e", "5", "é", "6", "o", "8", "ó").Replace(fmt.Sprint(i, "0", n))
				prefix = "(" + l.name[:1] + "o " + prefix + ") "
				w.text, w.want, w.at = prefix+w.text, prefix+w.want, time.Now()
				l.mu.Lock()
				l.sent = append(l.sent, w)
				l.mu.Unlock()
				user.Send(ctx, w.text)
				harness.EveryInterval(150*time.Millisecond)(ctx, n)
			}
		})
	}
}

// requireDelivered stops the senders, and checks that each text was delivered as wanted within limit.
func (l *lookalikes) requireDelivered(limit time.Duration) {
	l.T.Helper()
	l.stop()
	l.senders.Wait()
	slowest := time.Duration(0)
	for _, w := range l.sent {
		harness.Eventually(l.T, fmt.Sprintf("%q is delivered as %q", w.text, w.want), func() bool {
			return l.App.Received(w.want).Calls > 0
		})
		slowest = max(slowest, l.App.Received(w.want).First.Sub(w.at))
	}
	l.T.Logf("Redis %s: %d texts with words that could be a code, the slowest delivered after %s", l.name, len(l.sent),
		slowest.Round(time.Millisecond))
	if slowest > limit {
		l.T.Errorf("slowest text with Redis %s after %s, want at most %s", l.name, slowest, limit)
	}
}
