//go:build linux

package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/claim"
)

// How the gateway may change in a day.
const (
	mostGrowth = 0.05            // in the last two thirds of a day
	mostLeft   = 20              // goroutines, and open files, more than before anybody spoke
	restTime   = 5 * time.Minute // until idle connections are closed
)

// TestMemoryStaysAsItIs lets people talk on every channel for half an hour while
// everything happens that may: every webhook comes three times, runtimes have moods,
// Redis stands still, strangers forge hooks from ever new addresses and hold connections,
// codes are typed, right and wrong. The memory of the process stays below what it may
// have and, once it has come to its usual size, as it is; when all is quiet, goroutines
// and files are as before.
func TestMemoryStaysAsItIs(t *testing.T) {
	wholeOnly(t)
	var all []*thrice
	s, p := newStorm(t, climate{through: func(way http.RoundTripper) http.RoundTripper {
		th := &thrice{way: way, ctx: t.Context()}
		all = append(all, th)
		return th
	}})
	d := s.newDay(p)
	files, goroutines := d.strangers.fds(t), d.strangers.goroutines(t)
	d.sulky = s.newSulky()
	people, few, many := s.gather(share(10, 30)), s.disliked(5), s.onSulkyBot(20)
	hush := s.murmuring(3*time.Second, people, few, many)
	d.passes(share(90, 30*60))
	hush()
	for _, th := range all {
		th.rest()
	}
	t.Log(d)
	if d.peak > mostMemory {
		t.Errorf("%d bytes resident; want %d at most", d.peak, mostMemory)
	}
	if grown := growth(d.resident); grown > mostGrowth {
		t.Errorf("memory grew by %.1f %%; want %.1f %% at most", 100*grown, 100*mostGrowth)
	}
	if !s.quiet(5 * time.Minute) {
		t.Errorf("it is not quiet five minutes after\n%s", s.tail())
	}
	people.holds(1, 0)
	t.Logf("%d messages to runtimes in moods, all handed over", few.arrives().said+many.arrives().said)
	if n := s.count(`select count(*) from identities where verified_at is not null`); n != s.claims {
		t.Errorf("%d codes of %d were granted", n, s.claims)
	}
	s.healthy()
	quiet, left := time.Now(), func() (f, g int) { return d.strangers.fds(t) - files, d.strangers.goroutines(t) - goroutines }
	f, g := left()
	for ; max(f, g) > mostLeft && time.Since(quiet) < restTime; f, g = left() {
		s.stay(time.Second)
	}
	t.Logf("before anybody spoke %d files and %d goroutines; %s after all was quiet %+d and %+d", files, goroutines, time.Since(quiet).Round(time.Second), f, g)
	if max(f, g) > mostLeft {
		t.Errorf("%d files and %d goroutines more than before anybody spoke; want %d at most", f, g, mostLeft)
	}

	t.Run("control: a gateway that keeps what it reads", func(t *testing.T) {
		p.kill()
		s.leasesEnd(t.Context())
		s.role = "hoarding gateway"
		d := s.newDay(s.again())
		hush := s.murmuring(time.Second, s.gather(10))
		d.passes(share(20, 60))
		hush()
		t.Log("control:", d)
		if growth(d.resident) <= mostGrowth {
			t.Error("the check does not see that memory grows")
		}
	})
}

// murmuring lets several rounds murmur.
func (s *storm) murmuring(every time.Duration, rounds ...*round) (hush func()) {
	var all []func()
	for _, r := range rounds {
		all = append(all, r.murmur(every))
	}
	return func() {
		for _, hush := range all {
			hush()
		}
	}
}

// A day is what happens beside the people's talk, and the memory that a gateway has
// meanwhile, once a second.
type day struct {
	*storm
	strangers *hookHouse // the gateway as it is reached from any address, with keys that are guessed
	sulky     *sulky     // nil: no runtime has moods
	resident  []float64  // bytes
	peak      int64      // the most there ever was

	forged, slow, freezes int
}

func (s *storm) newDay(p *mortal) *day {
	guess := hookSeat{instance: s.instance, telegramSecret: "guess", account: twilioAccount, token: "guess", phone: phoneBot, team: slackTeam, app: slackApp, signing: "guess"}
	return &day{storm: s, strangers: &hookHouse{t: s.t, addr: p.addr, pid: p.cmd.Process.Pid, acme: guess}}
}

// passes lets a day pass in so many seconds. In each of them strangers try; in every
// minute somebody claims, and twice Redis stands still; a mood lasts a forty-fifth of
// the day, and all of them come at least seven times.
func (d *day) passes(seconds int) {
	d.t.Helper()
	moods := append([]mood{well}, badMoods...)
	spell := max(1, seconds/45)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var crowds sync.WaitGroup
	defer crowds.Wait()
	defer d.wires["redis"].set(whole)
	for n := range seconds {
		<-second.C
		d.resident = append(d.resident, float64(memory(d.t, d.strangers.pid, "VmRSS:")))
		if d.sulky != nil && n%spell == 0 {
			d.sulky.turn(moods[n/spell%len(moods)])
		}
		d.guesses(n)
		switch {
		case n%60 == 0:
			for who, code := range d.claimants(1) {
				d.telegram.Say(telegramBot, simulator.Person{ID: who, First: "Steve"}, "/claim "+code)
			}
		case n%30 == 5:
			crowd := d.strangers.crowdOfSlow(d.t, slowCrowdSize)
			d.slow += slowCrowdSize
			crowds.Go(func() { crowd.wait(d.t) })
		case n%30 == 20:
			d.wires["redis"].set(frozen)
			d.freezes++
		case n%30 == 25:
			d.wires["redis"].set(whole)
		}
	}
	if d.sulky != nil {
		d.sulky.turn(well)
	}
	d.peak = memory(d.t, d.strangers.pid, "VmHWM:")
}

const slowCrowdSize = 30

// guesses forges a hook of each kind, from an address that never called before, and
// types a code that is none.
func (d *day) guesses(n int) {
	d.t.Helper()
	for i, kind := range []string{"telegram", "sms", "slack/events"} {
		if a := d.strangers.send(d.t, d.strangers.caller(), draft(kind, 10*n+i, d.strangers.acme).post()); a.status != http.StatusForbidden {
			d.t.Errorf("a forged hook of %s is answered %d", kind, a.status)
		}
		d.forged++
	}
	d.telegram.Say(telegramBot, simulator.Person{ID: int64(700_000 + n%600), First: "Guess"}, "/claim "+claim.NewCode())
}

// growth gives by what part the memory grew in the last two thirds of the day: the
// middle of their last fifth against that of their first, each of which has all moods.
func growth(resident []float64) float64 {
	late := resident[len(resident)/3:]
	fifth := len(late) / 5
	return middle(late[len(late)-fifth:])/middle(late[:fifth]) - 1
}

func middle(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

func (d *day) String() string {
	const mib = 1 << 20
	third := len(d.resident) / 3
	return fmt.Sprintf("%d seconds, %d forged hooks, %d slow clients, Redis frozen %d times, %d codes; at most %d MiB resident, the middle of each third %.1f, %.1f and %.1f MiB, growth at the end %+.1f %%",
		len(d.resident), d.forged, d.slow, d.freezes, d.claims, d.peak/mib,
		middle(d.resident[:third])/mib, middle(d.resident[third:2*third])/mib, middle(d.resident[2*third:])/mib, 100*growth(d.resident))
}
