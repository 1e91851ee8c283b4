package recovery

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

// Limits for the resources of the gateway during the soak test.
const (
	maxGrowth       = 0.05            // of memory in the last two thirds of the run
	maxLeftover     = 20              // additional goroutines, and open files, at the end
	idleConnTimeout = 5 * time.Minute // after which idle connections are closed
)

// TestMemory_Stable checks that the memory of the gateway stays below maxMemory and does not grow,
// and that goroutines and open files return to their initial numbers. For half an hour users write
// on every channel, every webhook is delivered three times, applications are faulty, Redis
// freezes, codes are redeemed and guessed, and attackers forge webhooks from new addresses and
// hold connections open.
func TestMemory_Stable(t *testing.T) {
	harness.RequireFullRun(t)
	var transports []*harness.RedeliveringTransport
	s, p := harness.Start(t, harness.Options{WebhookTransport: func(next http.RoundTripper) http.RoundTripper {
		tr := &harness.RedeliveringTransport{Next: next, Ctx: t.Context()}
		transports = append(transports, tr)
		return tr
	}})
	files, goroutines := s.OpenFiles(p), int(s.Metric(p, "go_goroutines"))
	d := newSoakRun(s, p)
	d.faultyApp = s.AddFaultyApp()
	people, few, many := s.NewLoad(harness.Scaled(10, 30)), d.faultyApp.NewSelectedLoad(5), d.faultyApp.NewLoad(20)
	const pause = 3 * time.Second
	stops := []func(){people.SendInBackground(pause), few.SendInBackground(pause), many.SendInBackground(pause)}
	d.run(harness.Scaled(90, 30*60))
	for _, stop := range stops {
		stop()
	}
	for _, tr := range transports {
		tr.Flush()
	}
	if peak := harness.ProcessMemory(t, p.Cmd.Process.Pid, "VmHWM:"); peak > maxMemory {
		t.Errorf("peak resident memory = %d bytes, want at most %d", peak, maxMemory)
	}
	if grown := d.growth(); grown > maxGrowth {
		t.Errorf("memory growth = %.1f %%, want at most %.1f %%", 100*grown, 100*maxGrowth)
	}
	s.RequireIdle(5 * time.Minute)
	people.RequireComplete(1, 0)
	t.Logf("%d messages to faulty applications, all delivered", few.RequireDelivered().Sent+many.RequireDelivered().Sent)
	if n := s.QueryInt(`select count(*) from identities where verified_at is not null`); n != s.CodesIssued() {
		t.Errorf("redeemed codes = %d, want %d", n, s.CodesIssued())
	}
	s.CheckLog()
	idleSince := time.Now()
	left := func() (f, g int) { return s.OpenFiles(p) - files, int(s.Metric(p, "go_goroutines")) - goroutines }
	f, g := left()
	for ; max(f, g) > maxLeftover && time.Since(idleSince) < idleConnTimeout; f, g = left() {
		s.Sleep(time.Second)
	}
	t.Logf("%d files and %d goroutines before the load; %+d and %+d, %s after it",
		files, goroutines, f, g, time.Since(idleSince).Round(time.Second))
	if max(f, g) > maxLeftover {
		t.Errorf("additional files and goroutines after the load = %d and %d, want at most %d", f, g, maxLeftover)
	}

	t.Run("control: a gateway with a memory leak", func(t *testing.T) {
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.MemoryLeak
		d := newSoakRun(s, s.Restart())
		stop := s.NewLoad(10).SendInBackground(time.Second)
		d.run(harness.Scaled(20, 60))
		stop()
		if d.growth() <= maxGrowth {
			t.Error("memory growth with a leak is within the limit")
		}
	})
}

// soakRun generates the load of the soak test apart from the messages of the users, and samples
// the memory of the gateway once per second.
type soakRun struct {
	*harness.Harness
	attackers *rawhttp.WebhookFixture // send requests with guessed secrets from many addresses
	faultyApp *harness.FaultyApp      // nil if no application is faulty
	resident  []int64                 // samples in bytes
}

// newSoakRun returns a soak run against gateway p.
func newSoakRun(s *harness.Harness, p *harness.Process) *soakRun {
	return &soakRun{Harness: s, attackers: &rawhttp.WebhookFixture{Harness: s, Gateway: p, Acme: rawhttp.InstanceAccounts{
		InstanceID: s.InstanceID, TelegramSecret: "guess",
		AccountSID: harness.TwilioAccount, AuthToken: "guess", Phone: harness.SMSBotNumber,
		TeamID: harness.SlackTeamID, AppID: harness.SlackAppID, SigningSecret: "guess",
	}}}
}

// run generates load for the given number of seconds. Forged webhooks of each kind are sent every
// second from new addresses, and a code that does not exist. Every minute a code is redeemed, and
// Redis freezes and slow clients connect twice. Each fault of the application lasts a forty-fifth
// of the time and occurs at least seven times.
func (d *soakRun) run(seconds int) {
	d.T.Helper()
	const slowClientCount = 30
	faults := append([]harness.AppFault{harness.AppHealthy}, harness.AppFaults...)
	faultSeconds := max(1, seconds/45)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var slowClients sync.WaitGroup
	defer slowClients.Wait()
	defer d.Proxies["redis"].SetState(harness.ProxyUp)
	for n := range seconds {
		<-ticker.C
		d.resident = append(d.resident, harness.ProcessMemory(d.T, d.attackers.Gateway.Cmd.Process.Pid, "VmRSS:"))
		if d.faultyApp != nil && n%faultSeconds == 0 {
			d.faultyApp.SetFault(faults[n/faultSeconds%len(faults)])
		}
		for i, kind := range []string{"telegram", "sms", "slack/events"} {
			forged := rawhttp.NewUnsignedRequest(kind, 10*n+i, d.attackers.Acme).Sign()
			if a := d.attackers.Send(d.attackers.NewCallerAddr(), forged); a.Status != http.StatusForbidden {
				d.T.Errorf("forged %s webhook: status %d, want 403", kind, a.Status)
			}
		}
		guesser := simulator.TelegramUser{ID: int64(700_000 + n%600), FirstName: "Guess"}
		d.Telegram.SendText(harness.TelegramBot, guesser, "/claim "+claim.NewCode())
		switch {
		case n%60 == 0:
			for user, code := range d.IssueCodes(1) {
				from := simulator.TelegramUser{ID: user, FirstName: "Steve"}
				d.Telegram.SendText(harness.TelegramBot, from, "/claim "+code)
			}
		case n%30 == 5:
			clients := d.attackers.StartSlowClients(slowClientCount)
			slowClients.Go(func() { clients.Wait(d.T) })
		case n%30 == 20:
			d.Proxies["redis"].SetState(harness.ProxyFrozen)
		case n%30 == 25:
			d.Proxies["redis"].SetState(harness.ProxyUp)
		}
	}
	if d.faultyApp != nil {
		d.faultyApp.SetFault(harness.AppHealthy)
	}
	d.T.Logf("%d seconds, %d forged webhooks, %d slow clients, Redis frozen %d times, %d codes",
		seconds, 3*seconds, (seconds+24)/30*slowClientCount, (seconds+9)/30, d.CodesIssued())
}

// growth returns the relative growth of memory in the last two thirds of the run: the median of
// their last fifth compared to the median of their first fifth. All faults occur in each fifth.
func (d *soakRun) growth() float64 {
	median := func(samples []int64) float64 { return float64(slices.Sorted(slices.Values(samples))[len(samples)/2]) }
	third := len(d.resident) / 3
	late := d.resident[third:]
	fifth := len(late) / 5
	grown := median(late[len(late)-fifth:])/median(late[:fifth]) - 1
	const mib = 1 << 20
	d.T.Logf("resident memory at most %d MiB, medians of the thirds %.1f, %.1f and %.1f MiB, growth %+.1f %%",
		slices.Max(d.resident)/mib, median(d.resident[:third])/mib, median(d.resident[third:2*third])/mib,
		median(d.resident[2*third:])/mib, 100*grown)
	return grown
}
