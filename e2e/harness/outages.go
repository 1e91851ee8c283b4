package harness

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxRecovery is how soon after a store is back its messages must flow again.
const maxRecovery = 5 * time.Second

// SendInBackground lets everybody talk, a message each so often, until they are hushed.
func (r *MessageLoad) SendInBackground(every time.Duration) (hush func()) {
	ctx, stop := context.WithCancel(r.T.Context())
	r.Pace = EveryInterval(every)
	r.StartSending(ctx, 1<<30)
	return func() {
		stop()
		r.Senders.Wait()
	}
}

// RestartPostgres is one stop and start of Postgres, and what is true around it.
func (s *Harness) RestartPostgres(pg *PostgresServer) {
	s.T.Helper()
	s.Sleep(200*time.Millisecond + rand.N(400*time.Millisecond))
	if err := pg.StopImmediately(); err != nil {
		s.T.Fatal(err)
	}
	down := time.Now()
	s.Sleep(500*time.Millisecond + rand.N(500*time.Millisecond))
	ups := time.Now()
	if n := s.AcceptedDuring(down, ups); n > 0 {
		s.T.Errorf("%d messages were taken while the database was down", n)
	}
	refused := 0
	for _, a := range s.Webhooks.CompletedBetween(down, ups) {
		if a.Status == 503 {
			refused++
		} else if a.Channel != "sms" || a.Status != 200 {
			s.T.Errorf("a hook of %s is answered %d while the database is down", a.Channel, a.Status)
		}
	}
	if refused == 0 {
		s.T.Errorf("nobody wrote while the database was down")
	}
	if err := pg.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.RequireRecovery(time.Now())
}

// AcceptedDuring counts the webhooks taken in a time in which nothing can be stored, but
// for SMS: what was taken of those is looked for in the end.
func (s *Harness) AcceptedDuring(from, to time.Time) (n int) {
	for _, a := range s.Webhooks.CompletedBetween(from, to) {
		if a.Accepted() && a.Channel != "sms" {
			n++
		}
	}
	return n
}

// RequireRecovery sees that every way in works soon after the database is back.
func (s *Harness) RequireRecovery(up time.Time) {
	s.T.Helper()
	latest := time.Duration(0)
	for _, channel := range []string{"telegram", "sms", "slack"} {
		s.requireWithin(maxRecovery, up, "the first hook of "+channel+" is taken", func() (bool, time.Time) {
			at, ok := s.Webhooks.firstAccepted(channel, up)
			latest = max(latest, at.Sub(up))
			return ok, at
		})
	}
	s.requireWithin(maxRecovery, up, "the first polled message is handed over", func() (bool, time.Time) {
		at, ok := s.App.FirstReceivedAfter(PollingBot, up)
		latest = max(latest, at.Sub(up))
		return ok, at
	})
	s.T.Logf("all flows again %s after it is back", latest.Round(time.Millisecond))
}

// requireWithin waits for something, which must have happened so soon after a time.
func (s *Harness) requireWithin(d time.Duration, since time.Time, what string, happened func() (bool, time.Time)) {
	s.T.Helper()
	var at time.Time
	Eventually(s.T, what, func() (ok bool) {
		ok, at = happened()
		return ok
	})
	if took := at.Sub(since); took > d {
		s.T.Errorf("%s after %s; want within %s", what, took, d)
	}
}

// Freeze lets nothing through to a server for a while.
func (s *Harness) Freeze(server string, d time.Duration) (from, to time.Time) {
	s.Proxies[server].SetState(ProxyFrozen)
	from = time.Now()
	s.Sleep(d)
	to = time.Now()
	s.Proxies[server].SetState(ProxyUp)
	return from, to
}

// IssueCodes links so many people on Telegram and gives their codes.
func (s *Harness) IssueCodes(n int) (codes map[int64]string) {
	s.T.Helper()
	codes = map[int64]string{}
	for range n {
		s.CodesIssued++
		who := int64(900_000 + s.CodesIssued)
		var customer, linked struct{ ID string }
		var issued struct{ Code string }
		s.MustCall("POST", "/v1/customers", map[string]string{"first_name": "Steve"}, http.StatusCreated, &customer)
		path := "/v1/customers/" + customer.ID + "/identities"
		s.MustCall("POST", path, map[string]string{"channel": "telegram", "external_id": strconv.FormatInt(who, 10), "instance_id": s.InstanceID}, http.StatusCreated, &linked)
		s.MustCall("POST", path+"/"+linked.ID+"/claim-code", struct{}{}, http.StatusCreated, &issued)
		codes[who] = issued.Code
	}
	return codes
}

// Latencies gives how long 99 of 100 hooks took in a time, and how long after it was
// said what was said in it was handed over.
func (s *Harness) Latencies(r *MessageLoad, from, to time.Time) (p [2]time.Duration) {
	var hooks, handed []time.Duration
	for _, a := range s.Webhooks.StartedBetween(from, to) {
		hooks = append(hooks, a.Duration())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.Sent {
		if h := r.App.Received(u.Text); u.SentAt.After(from) && u.SentAt.Before(to) && h.Calls > 0 {
			handed = append(handed, h.First.Sub(u.SentAt))
		}
	}
	return [2]time.Duration{percentile(hooks, 0.99).Round(time.Millisecond), percentile(handed, 0.99).Round(time.Millisecond)}
}
