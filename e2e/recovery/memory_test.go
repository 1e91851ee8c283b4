package recovery

import (
	"fmt"
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
	d := newSoakRun(s, p)
	files, goroutines := d.attackers.OpenFiles(t), d.attackers.Goroutines(t)
	d.faultyApp = newFaultyApp(s)
	people, few, many := s.NewLoad(harness.Scaled(10, 30)), gatherFaultTargets(s, 5), gatherForFaultyApp(s, 20)
	stop := talkInBackground(s, 3*time.Second, people, few, many)
	d.run(harness.Scaled(90, 30*60))
	stop()
	for _, tr := range transports {
		tr.Flush()
	}
	t.Log(d)
	if d.peakMemory > maxMemory {
		t.Errorf("peak resident memory = %d bytes, want at most %d", d.peakMemory, maxMemory)
	}
	if grown := growth(d.residentSamples); grown > maxGrowth {
		t.Errorf("memory growth = %.1f %%, want at most %.1f %%", 100*grown, 100*maxGrowth)
	}
	if !s.WaitIdle(5 * time.Minute) {
		t.Errorf("not idle after five minutes\n%s", s.LogTail())
	}
	people.RequireComplete(1, 0)
	t.Logf("%d messages to faulty applications, all delivered", requireDelivered(few).Sent+requireDelivered(many).Sent)
	if n := s.QueryInt(`select count(*) from identities where verified_at is not null`); n != s.CodesIssued {
		t.Errorf("redeemed codes = %d, want %d", n, s.CodesIssued)
	}
	s.CheckLog()
	idleSince := time.Now()
	left := func() (f, g int) {
		return d.attackers.OpenFiles(t) - files, d.attackers.Goroutines(t) - goroutines
	}
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
		stop := talkInBackground(s, time.Second, s.NewLoad(10))
		d.run(harness.Scaled(20, 60))
		stop()
		t.Log("control:", d)
		if growth(d.residentSamples) <= maxGrowth {
			t.Error("memory growth with a leak is within the limit")
		}
	})
}

// talkInBackground sends messages of several loads until stop is called.
func talkInBackground(s *harness.Harness, interval time.Duration, loads ...*harness.MessageLoad) (stop func()) {
	var stops []func()
	for _, r := range loads {
		stops = append(stops, r.SendInBackground(interval))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// soakRun generates the load of the soak test apart from the messages of the users, and samples
// the memory of the gateway once per second.
type soakRun struct {
	*harness.Harness
	attackers       *rawhttp.WebhookFixture // send requests with guessed secrets from many addresses
	faultyApp       *faultyApp              // nil if no application is faulty
	residentSamples []float64               // bytes
	peakMemory      int64                   // bytes

	forgedCount, slowCount, freezeCount int
}

// newSoakRun returns a soak run against gateway p.
func newSoakRun(s *harness.Harness, p *harness.Process) *soakRun {
	guess := rawhttp.InstanceAccounts{
		InstanceID: s.InstanceID, TelegramSecret: "guess",
		AccountSID: harness.TwilioAccount, AuthToken: "guess", Phone: harness.SMSBotNumber,
		TeamID: harness.SlackTeamID, AppID: harness.SlackAppID, SigningSecret: "guess",
	}
	return &soakRun{
		Harness:   s,
		attackers: &rawhttp.WebhookFixture{T: s.T, Addr: p.Addr, Pid: p.Cmd.Process.Pid, Acme: guess},
	}
}

// run generates load for the given number of seconds. Forged webhooks are sent every second. Every
// minute a code is redeemed, and Redis freezes and slow clients connect twice. Each fault of the
// application lasts a forty-fifth of the time and occurs at least seven times.
func (d *soakRun) run(seconds int) {
	d.T.Helper()
	faults := append([]appFault{appHealthy}, appFaults...)
	faultSeconds := max(1, seconds/45)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var slowClients sync.WaitGroup
	defer slowClients.Wait()
	defer d.Proxies["redis"].SetState(harness.ProxyUp)
	for n := range seconds {
		<-ticker.C
		resident := harness.ProcessMemory(d.T, d.attackers.Pid, "VmRSS:")
		d.residentSamples = append(d.residentSamples, float64(resident))
		if d.faultyApp != nil && n%faultSeconds == 0 {
			d.faultyApp.setFault(faults[n/faultSeconds%len(faults)])
		}
		d.sendForgeries(n)
		switch {
		case n%60 == 0:
			for user, code := range d.IssueCodes(1) {
				from := simulator.TelegramUser{ID: user, FirstName: "Steve"}
				d.Telegram.SendText(harness.TelegramBot, from, "/claim "+code)
			}
		case n%30 == 5:
			clients := d.attackers.StartSlowClients(d.T, slowClientCount)
			d.slowCount += slowClientCount
			slowClients.Go(func() { clients.Wait(d.T) })
		case n%30 == 20:
			d.Proxies["redis"].SetState(harness.ProxyFrozen)
			d.freezeCount++
		case n%30 == 25:
			d.Proxies["redis"].SetState(harness.ProxyUp)
		}
	}
	if d.faultyApp != nil {
		d.faultyApp.setFault(appHealthy)
	}
	d.peakMemory = harness.ProcessMemory(d.T, d.attackers.Pid, "VmHWM:")
}

// slowClientCount is the number of slow clients that connect at a time.
const slowClientCount = 30

// sendForgeries sends a forged webhook of each kind from a new address, and a code that does not
// exist.
func (d *soakRun) sendForgeries(n int) {
	d.T.Helper()
	for i, kind := range []string{"telegram", "sms", "slack/events"} {
		forged := rawhttp.NewUnsignedRequest(kind, 10*n+i, d.attackers.Acme).Sign()
		if a := d.attackers.Send(d.T, d.attackers.NewCallerAddr(), forged); a.Status != http.StatusForbidden {
			d.T.Errorf("forged %s webhook: status %d, want 403", kind, a.Status)
		}
		d.forgedCount++
	}
	guesser := simulator.TelegramUser{ID: int64(700_000 + n%600), FirstName: "Guess"}
	d.Telegram.SendText(harness.TelegramBot, guesser, "/claim "+claim.NewCode())
}

// growth returns the relative growth of memory in the last two thirds of the run: the median of
// their last fifth compared to the median of their first fifth. All faults occur in each fifth.
func growth(resident []float64) float64 {
	late := resident[len(resident)/3:]
	fifth := len(late) / 5
	return medianValue(late[len(late)-fifth:])/medianValue(late[:fifth]) - 1
}

// medianValue returns the median of values.
func medianValue(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// String summarizes the run.
func (d *soakRun) String() string {
	const mib = 1 << 20
	third := len(d.residentSamples) / 3
	return fmt.Sprintf("%d seconds, %d forged webhooks, %d slow clients, Redis frozen %d times, %d codes; "+
		"peak resident memory %d MiB, medians of the thirds %.1f, %.1f and %.1f MiB, growth %+.1f %%",
		len(d.residentSamples), d.forgedCount, d.slowCount, d.freezeCount, d.CodesIssued, d.peakMemory/mib,
		medianValue(d.residentSamples[:third])/mib, medianValue(d.residentSamples[third:2*third])/mib,
		medianValue(d.residentSamples[2*third:])/mib, 100*growth(d.residentSamples))
}
