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

// How the gateway may change in a day.
const (
	maxGrowth       = 0.05            // in the last two thirds of a day
	maxLeftover     = 20              // goroutines, and open files, more than before anybody spoke
	idleConnTimeout = 5 * time.Minute // until idle connections are closed
)

// TestMemory_Stable lets people talk on every channel for half an hour while
// everything happens that may: every webhook comes three times, runtimes have moods,
// Redis stands still, strangers forge hooks from ever new addresses and hold connections,
// codes are typed, right and wrong. The memory of the process stays below what it may
// have and, once it has come to its usual size, as it is; when all is quiet, goroutines
// and files are as before.
func TestMemory_Stable(t *testing.T) {
	harness.RequireFullRun(t)
	var all []*harness.RedeliveringTransport
	s, p := harness.Start(t, harness.Options{WebhookTransport: func(way http.RoundTripper) http.RoundTripper {
		th := &harness.RedeliveringTransport{Next: way, Ctx: t.Context()}
		all = append(all, th)
		return th
	}})
	d := newSoakRun(s, p)
	files, goroutines := d.attackers.OpenFiles(t), d.attackers.Goroutines(t)
	d.faultyApp = newFaultyApp(s)
	people, few, many := s.NewLoad(harness.Scaled(10, 30)), gatherFaultTargets(s, 5), gatherForFaultyApp(s, 20)
	hush := talkInBackground(s, 3*time.Second, people, few, many)
	d.run(harness.Scaled(90, 30*60))
	hush()
	for _, th := range all {
		th.Flush()
	}
	t.Log(d)
	if d.peakMemory > maxMemory {
		t.Errorf("%d bytes resident; want %d at most", d.peakMemory, maxMemory)
	}
	if grown := growth(d.residentSamples); grown > maxGrowth {
		t.Errorf("memory grew by %.1f %%; want %.1f %% at most", 100*grown, 100*maxGrowth)
	}
	if !s.WaitIdle(5 * time.Minute) {
		t.Errorf("it is not quiet five minutes after\n%s", s.LogTail())
	}
	people.RequireComplete(1, 0)
	t.Logf("%d messages to runtimes in moods, all handed over", requireDelivered(few).Sent+requireDelivered(many).Sent)
	if n := s.QueryInt(`select count(*) from identities where verified_at is not null`); n != s.CodesIssued {
		t.Errorf("%d codes of %d were granted", n, s.CodesIssued)
	}
	s.CheckLog()
	quiet, left := time.Now(), func() (f, g int) { return d.attackers.OpenFiles(t) - files, d.attackers.Goroutines(t) - goroutines }
	f, g := left()
	for ; max(f, g) > maxLeftover && time.Since(quiet) < idleConnTimeout; f, g = left() {
		s.Sleep(time.Second)
	}
	t.Logf("before anybody spoke %d files and %d goroutines; %s after all was quiet %+d and %+d", files, goroutines, time.Since(quiet).Round(time.Second), f, g)
	if max(f, g) > maxLeftover {
		t.Errorf("%d files and %d goroutines more than before anybody spoke; want %d at most", f, g, maxLeftover)
	}

	t.Run("control: a gateway that keeps what it reads", func(t *testing.T) {
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.MemoryLeak
		d := newSoakRun(s, s.Restart())
		hush := talkInBackground(s, time.Second, s.NewLoad(10))
		d.run(harness.Scaled(20, 60))
		hush()
		t.Log("control:", d)
		if growth(d.residentSamples) <= maxGrowth {
			t.Error("the check does not see that memory grows")
		}
	})
}

// talkInBackground lets several rounds murmur.
func talkInBackground(s *harness.Harness, every time.Duration, rounds ...*harness.MessageLoad) (hush func()) {
	var all []func()
	for _, r := range rounds {
		all = append(all, r.SendInBackground(every))
	}
	return func() {
		for _, hush := range all {
			hush()
		}
	}
}

// A soakRun is what happens beside the people's talk, and the memory that a gateway has
// meanwhile, once a second.
type soakRun struct {
	*harness.Harness
	attackers       *rawhttp.WebhookFixture // the gateway as it is reached from any address, with keys that are guessed
	faultyApp       *faultyApp              // nil: no runtime has moods
	residentSamples []float64               // bytes
	peakMemory      int64                   // the most there ever was

	forgedCount, slowCount, freezeCount int
}

func newSoakRun(s *harness.Harness, p *harness.Process) *soakRun {
	guess := rawhttp.InstanceAccounts{InstanceID: s.InstanceID, TelegramSecret: "guess", AccountSID: harness.TwilioAccount, AuthToken: "guess", Phone: harness.SMSBotNumber, TeamID: harness.SlackTeamID, AppID: harness.SlackAppID, SigningSecret: "guess"}
	return &soakRun{Harness: s, attackers: &rawhttp.WebhookFixture{T: s.T, Addr: p.Addr, Pid: p.Cmd.Process.Pid, Acme: guess}}
}

// run lets a day pass in so many seconds. In each of them strangers try; in every
// minute somebody claims, and twice Redis stands still; a mood lasts a forty-fifth of
// the day, and all of them come at least seven times.
func (d *soakRun) run(seconds int) {
	d.T.Helper()
	moods := append([]appFault{appHealthy}, appFaults...)
	spell := max(1, seconds/45)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var crowds sync.WaitGroup
	defer crowds.Wait()
	defer d.Proxies["redis"].SetState(harness.ProxyUp)
	for n := range seconds {
		<-second.C
		d.residentSamples = append(d.residentSamples, float64(harness.ProcessMemory(d.T, d.attackers.Pid, "VmRSS:")))
		if d.faultyApp != nil && n%spell == 0 {
			d.faultyApp.setFault(moods[n/spell%len(moods)])
		}
		d.sendForgeries(n)
		switch {
		case n%60 == 0:
			for who, code := range d.IssueCodes(1) {
				d.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: who, FirstName: "Steve"}, "/claim "+code)
			}
		case n%30 == 5:
			crowd := d.attackers.StartSlowClients(d.T, slowClientCount)
			d.slowCount += slowClientCount
			crowds.Go(func() { crowd.Wait(d.T) })
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

const slowClientCount = 30

// sendForgeries forges a hook of each kind, from an address that never called before, and
// types a code that is none.
func (d *soakRun) sendForgeries(n int) {
	d.T.Helper()
	for i, kind := range []string{"telegram", "sms", "slack/events"} {
		if a := d.attackers.Send(d.T, d.attackers.NewCallerAddr(), rawhttp.NewUnsignedRequest(kind, 10*n+i, d.attackers.Acme).Sign()); a.Status != http.StatusForbidden {
			d.T.Errorf("a forged hook of %s is answered %d", kind, a.Status)
		}
		d.forgedCount++
	}
	d.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: int64(700_000 + n%600), FirstName: "Guess"}, "/claim "+claim.NewCode())
}

// growth gives by what part the memory grew in the last two thirds of the day: the
// middle of their last fifth against that of their first, each of which has all moods.
func growth(resident []float64) float64 {
	late := resident[len(resident)/3:]
	fifth := len(late) / 5
	return medianValue(late[len(late)-fifth:])/medianValue(late[:fifth]) - 1
}

func medianValue(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

func (d *soakRun) String() string {
	const mib = 1 << 20
	third := len(d.residentSamples) / 3
	return fmt.Sprintf("%d seconds, %d forged hooks, %d slow clients, Redis frozen %d times, %d codes; at most %d MiB resident, the middle of each third %.1f, %.1f and %.1f MiB, growth at the end %+.1f %%",
		len(d.residentSamples), d.forgedCount, d.slowCount, d.freezeCount, d.CodesIssued, d.peakMemory/mib,
		medianValue(d.residentSamples[:third])/mib, medianValue(d.residentSamples[third:2*third])/mib, medianValue(d.residentSamples[2*third:])/mib, 100*growth(d.residentSamples))
}
