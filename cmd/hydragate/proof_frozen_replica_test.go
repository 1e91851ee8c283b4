//go:build unix

package main

import (
	"syscall"
	"testing"
	"time"

	"hydragate/adapters/simulator"
)

// takeOver is how soon another replica must go on with the work of one that stands still.
const takeOver = 15 * time.Second

// TestFrozenReplicaWritesNothing stops a gateway where it stands while it polls, works
// messages, waits for the agent and waits for a channel, with statements on their way
// to the database, and wakes it when another has gone on with all of it. What it would
// have written is refused; nothing is lost, stored twice or said twice, but for replies
// that were on their way. With HYDRAGATE_TEST_LONG=1 leases run out by the clock, three
// times over; otherwise time is made to pass.
func TestFrozenReplicaWritesNothing(t *testing.T) {
	wholeOnly(t)
	s, a := newStorm(t, climate{})
	other := []string{"HYDRAGATE_DATABASE_URL=" + s.wiredAgain("postgres"), "HYDRAGATE_DATA_DIR=" + t.TempDir()}
	way := loseAnswers(t, s.wires["postgres"])
	s.sideBySide = true
	pollers := 0
	for range share(1, 3) {
		f := s.standStill(a, way, other, share(4, 10))
		t.Logf("taken over after %s; of the one that woke %d writes of lanes and %d of the poller are refused", f.took.Round(time.Millisecond), f.lanes, f.pollers)
		pollers += f.pollers
		if f.took > takeOver || f.lanes == 0 {
			t.Errorf("want a take-over within %s, and writes that are refused", takeOver)
		}
		if f.agentReplies != 1 || f.slackReplies != 1 {
			t.Errorf("the reply that the agent was asked for twice was said %d times, the one that Slack had taken %d times; want once each", f.agentReplies, f.slackReplies)
		}
		f.round.holds(4*len(f.round.folk), outboxSize)
	}
	if long() && pollers == 0 {
		t.Error("a poller was never in the middle of its write")
	}
	s.healthy()

	t.Run("control: without the fences of leases", func(t *testing.T) {
		s.exec(`alter table lanes drop constraint lanes_lease`)
		s.exec(`alter table endpoints drop constraint endpoints_poll`)
		if f := s.standStill(a, way, other, 2); f.agentReplies < 2 {
			t.Errorf("the check does not see what a late writer does: the reply was said %d times", f.agentReplies)
		}
	})
}

// A standstill is what came of one.
type standstill struct {
	round                      *round
	took                       time.Duration // until the other replica went on
	lanes, pollers             int           // writes that were refused
	agentReplies, slackReplies int           // of two replies that were in the making
}

// standStill stops a in the middle of its work, lets another replica go on, and wakes
// a again. The other has its own way to the database, and is gone in the end.
func (s *storm) standStill(a *mortal, way *lossy, other []string, each int) (f standstill) {
	s.t.Helper()
	f.round = s.gather(each)
	hush := f.round.murmur(100 * time.Millisecond)
	s.stay(500 * time.Millisecond)
	asked, posted := f.round.name+": asked", f.round.name+": posted"
	waits, letGo := s.ear.holdFirst(asked)
	s.telegram.Say(telegramBot, simulator.Person{ID: 700_000, First: "Somebody"}, asked)
	<-waits
	s.slack.Arm("chat.postMessage", simulator.Fault{Hang: true}) // perhaps of another's: that hangs as well
	s.onSlack("U70000").says(s.t.Context(), posted)
	eventually(s.t, "Slack has the reply", func() bool { return s.repliesRead()["re "+posted] > 0 })

	s.wires["postgres"].set(frozen)
	s.telegram.Say(polledBot, simulator.Person{ID: 700_001, First: "Somebody"}, f.round.name+": polled")
	s.stay(500 * time.Millisecond) // what is written now is on its way
	a.signal(s.t, syscall.SIGSTOP)
	stopped := time.Now()
	if !long() {
		s.leasesEnd(s.t.Context())
	}
	b, err := s.start(s.t.Context(), other...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		s.front.lead(a.addr)
		s.ends(b)
	}()
	eventually(s.t, "another goes on", func() bool {
		return s.ear.heard(asked).calls > 1 && s.count(`select count(*) from outbox where text = $1 and status = 'sent'`, "re "+posted) == 1
	})
	if _, polled := s.ear.firstAfter(polledBot, stopped); !polled {
		eventually(s.t, "another polls", func() bool { _, ok := s.ear.firstAfter(polledBot, stopped); return ok })
	}
	f.took = time.Since(stopped)
	letGo()
	before := way.refusals()
	s.wires["postgres"].set(whole) // what was on its way arrives
	a.signal(s.t, syscall.SIGCONT)
	s.front.lead(a.addr, b.addr)
	s.stay(2 * time.Second)
	hush()
	if !s.quiet(time.Minute) {
		s.t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	after := way.refusals()
	f.lanes, f.pollers = after["lanes_lease"]-before["lanes_lease"], after["endpoints_poll"]-before["endpoints_poll"]
	read := s.repliesRead()
	f.agentReplies, f.slackReplies = read["re "+asked], read["re "+posted]
	return f
}

// ends asks a gateway to end and waits until it has.
func (s *storm) ends(p *mortal) {
	p.signal(s.t, syscall.SIGTERM)
	<-p.ended
}
