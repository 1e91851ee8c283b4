//go:build unix

package harness

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// maxRecovery is how soon messages must be processed after a store is available again. The short form
// runs beside other tests, so it allows more.
var maxRecovery = time.Duration(Scaled(30, 5)) * time.Second

// SendInBackground makes each user send a message in each interval until stop is called.
func (r *MessageLoad) SendInBackground(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(r.T.Context())
	r.Pace = EveryInterval(every)
	r.StartSending(ctx, 1<<30)
	return func() {
		cancel()
		r.Senders.Wait()
	}
}

// RestartPostgres stops and starts Postgres. It checks the responses to webhooks during the outage and
// the recovery.
func (s *Harness) RestartPostgres(pg *PostgresServer) {
	s.T.Helper()
	s.Sleep(200*time.Millisecond + rand.N(400*time.Millisecond))
	if err := pg.StopImmediately(); err != nil {
		s.T.Fatal(err)
	}
	down := time.Now()
	s.Sleep(500*time.Millisecond + rand.N(500*time.Millisecond))
	var end time.Time
	Eventually(s.T, "a webhook is rejected while the database is down", func() bool {
		end = time.Now()
		return slices.ContainsFunc(s.Webhooks.CompletedBetween(down, end), func(a webhookResult) bool {
			return a.Status == http.StatusServiceUnavailable
		})
	})
	if n := s.AcceptedDuring(down, end); n > 0 {
		s.T.Errorf("%d messages accepted while the database was down", n)
	}
	for _, a := range s.Webhooks.CompletedBetween(down, end) {
		if a.Status != http.StatusServiceUnavailable && (a.Channel != "sms" || a.Status != http.StatusOK) {
			s.T.Errorf("webhook of %s = %d while the database was down", a.Channel, a.Status)
		}
	}
	if err := pg.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.RequireRecovery(time.Now())
}

// AwaitWebhooks waits until a webhook of each channel was accepted after a time. The gateway has then read
// their endpoints.
func (s *Harness) AwaitWebhooks(since time.Time) {
	s.T.Helper()
	for _, channel := range []string{"telegram", "sms", "slack"} {
		Eventually(s.T, "a webhook of "+channel+" is accepted", func() bool {
			_, ok := s.Webhooks.firstAccepted(channel, since)
			return ok
		})
	}
}

// AcceptedDuring returns the number of webhooks that were accepted in an interval in which nothing could
// be stored. It leaves out SMS, which are accepted into the spool.
func (s *Harness) AcceptedDuring(from, to time.Time) (n int) {
	for _, a := range s.Webhooks.CompletedBetween(from, to) {
		if a.Accepted() && a.Channel != "sms" {
			n++
		}
	}
	return n
}

// RequireRecovery checks that all channels work soon after the database is available again.
func (s *Harness) RequireRecovery(up time.Time) {
	s.T.Helper()
	latest := time.Duration(0)
	for _, channel := range []string{"telegram", "sms", "slack"} {
		s.requireWithin(maxRecovery, up, "first webhook of "+channel, func() (bool, time.Time) {
			at, ok := s.Webhooks.firstAccepted(channel, up)
			latest = max(latest, at.Sub(up))
			return ok, at
		})
	}
	s.requireWithin(maxRecovery, up, "first delivery of a polled message", func() (bool, time.Time) {
		at, ok := s.App.FirstReceivedAfter(PollingBot, up)
		latest = max(latest, at.Sub(up))
		return ok, at
	})
	s.T.Logf("recovered after %s", latest.Round(time.Millisecond))
}

// requireWithin waits for an event. It fails the test if the event happened later than d after since.
func (s *Harness) requireWithin(d time.Duration, since time.Time, what string, happened func() (bool, time.Time)) {
	s.T.Helper()
	var at time.Time
	Eventually(s.T, what, func() (ok bool) {
		ok, at = happened()
		return ok
	})
	if took := at.Sub(since); took > d {
		s.T.Errorf("%s after %s, want within %s", what, took, d)
	}
}

// Freeze freezes the proxy in front of a server for a while. It returns the interval.
func (s *Harness) Freeze(server string, d time.Duration) (from, to time.Time) {
	s.Proxies[server].SetState(ProxyFrozen)
	from = time.Now()
	s.Sleep(d)
	to = time.Now()
	s.Proxies[server].SetState(ProxyUp)
	return from, to
}

// RequireIdle waits until the gateways have no work left. It fails the test if they have some after the
// timeout.
func (s *Harness) RequireIdle(timeout time.Duration) {
	s.T.Helper()
	if !s.WaitIdle(timeout) {
		s.T.Errorf("not idle after %s\n%s", timeout, s.LogTail())
	}
}

// RequireAccepted fails the test if a webhook was not accepted. Those that the provider canceled are
// left out.
func (s *Harness) RequireAccepted() {
	s.T.Helper()
	if failed := s.Webhooks.failed(); len(failed) > 0 {
		s.T.Errorf("%d webhooks were not accepted, such as %+v", len(failed), failed[0])
	}
}

// RequireNothingGivenUp fails the test if a message, a delivery or an unreadable reply was given up.
func (s *Harness) RequireNothingGivenUp() {
	s.T.Helper()
	if n := s.QueryInt(`select (select count(*) from messages where state = 'dead')
		+ (select count(*) from deliveries where status = 'dead')
		+ (select count(*) from outbox where status = 'failed' and code = 'unreadable')`); n > 0 {
		s.T.Errorf("messages, deliveries and replies given up = %d, want 0", n)
	}
}

// A Window is an interval in which latencies are measured.
type Window struct{ From, To time.Time }

// MeasureWindows waits for n windows of a length and returns them.
func (s *Harness) MeasureWindows(n int, length time.Duration) (windows []Window) {
	for range n {
		from := time.Now()
		s.Sleep(length)
		windows = append(windows, Window{from, time.Now()})
	}
	return windows
}

// WebhookLatency returns the 99th percentile of the duration of the webhooks that started in a window.
func (s *Harness) WebhookLatency(w Window) time.Duration {
	var durations []time.Duration
	for _, a := range s.Webhooks.StartedBetween(w.From, w.To) {
		durations = append(durations, a.Duration())
	}
	return percentile(durations, 0.99)
}

// DeliveryLatencies returns the time until the delivery of each message that was sent in a window and is
// delivered.
func (r *MessageLoad) DeliveryLatencies(w Window) (latencies []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.Sent {
		if h := r.App.Received(u.Text); u.SentAt.After(w.From) && u.SentAt.Before(w.To) && h.Calls > 0 {
			latencies = append(latencies, h.First.Sub(u.SentAt))
		}
	}
	return latencies
}

// DeliveryLatency returns the median over the windows of the 99th percentile of DeliveryLatencies. A
// single one is noisy on a busy machine.
func (r *MessageLoad) DeliveryLatency(windows ...Window) time.Duration {
	var p99s []time.Duration
	for _, w := range windows {
		p99s = append(p99s, percentile(r.DeliveryLatencies(w), 0.99))
	}
	return Median(p99s).Round(time.Millisecond)
}
