package recovery

import (
	"syscall"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// maxTakeover is how soon another replica must go on with the work of one that stands still.
const maxTakeover = 15 * time.Second

// TestFrozenReplica_WritesFenced stops a gateway where it stands while it polls, works
// messages, waits for the agent and waits for a channel, with statements on their way
// to the database, and wakes it when another has gone on with all of it. What it would
// have written is refused; nothing is lost, stored twice or said twice, but for replies
// that were on their way. With HYDRAGATE_TEST_LONG=1 leases run out by the clock, three
// times over; otherwise time is made to pass.
func TestFrozenReplica_WritesFenced(t *testing.T) {
	harness.RequireFullRun(t)
	s, a := harness.Start(t, harness.Options{})
	other := []string{"HYDRAGATE_DATABASE_URL=" + s.SecondPostgresProxy(), "HYDRAGATE_DATA_DIR=" + t.TempDir()}
	way := insertCommitLossProxy(t, s.Proxies["postgres"])
	s.Replicated = true
	pollers := 0
	for range harness.Scaled(1, 3) {
		f := freezeReplica(s, a, way, other, harness.Scaled(4, 10))
		t.Logf("taken over after %s; of the one that woke %d writes of lanes and %d of the poller are refused", f.took.Round(time.Millisecond), f.rejectedQueueWrites, f.rejectedPollWrites)
		pollers += f.rejectedPollWrites
		if f.took > maxTakeover || f.rejectedQueueWrites == 0 {
			t.Errorf("want a take-over within %s, and writes that are refused", maxTakeover)
		}
		if f.agentReplies != 1 || f.slackReplies != 1 {
			t.Errorf("the reply that the agent was asked for twice was said %d times, the one that Slack had taken %d times; want once each", f.agentReplies, f.slackReplies)
		}
		f.load.RequireComplete(4*len(f.load.Users), app.OutboxSize)
	}
	if harness.FullRun() && pollers == 0 {
		t.Error("a poller was never in the middle of its write")
	}
	s.CheckLog()

	t.Run("control: without the fences of leases", func(t *testing.T) {
		s.Exec(`alter table lanes drop constraint lanes_lease`)
		s.Exec(`alter table endpoints drop constraint endpoints_poll`)
		if f := freezeReplica(s, a, way, other, 2); f.agentReplies < 2 {
			t.Errorf("the check does not see what a late writer does: the reply was said %d times", f.agentReplies)
		}
	})
}

// A freezeResult is what came of one.
type freezeResult struct {
	load                                    *harness.MessageLoad
	took                                    time.Duration // until the other replica went on
	rejectedQueueWrites, rejectedPollWrites int           // writes that were refused
	agentReplies, slackReplies              int           // of two replies that were in the making
}

// freezeReplica stops a in the middle of its work, lets another replica go on, and wakes
// a again. The other has its own way to the database, and is gone in the end.
func freezeReplica(s *harness.Harness, a *harness.Process, way *commitLossProxy, other []string, each int) (f freezeResult) {
	s.T.Helper()
	f.load = s.NewLoad(each)
	hush := f.load.SendInBackground(100 * time.Millisecond)
	s.Sleep(500 * time.Millisecond)
	asked, posted := f.load.Name+": asked", f.load.Name+": posted"
	waits, letGo := s.App.BlockFirstCall(asked)
	s.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: 700_000, FirstName: "Somebody"}, asked)
	<-waits
	s.Slack.Arm("chat.postMessage", simulator.Fault{Hang: true}) // perhaps of another's: that hangs as well
	s.SlackUser("U70000").Send(s.T.Context(), posted)
	harness.Eventually(s.T, "Slack has the reply", func() bool { return s.ReplyCounts()["re "+posted] > 0 })

	s.Proxies["postgres"].SetState(harness.ProxyFrozen)
	s.Telegram.SendText(harness.PollingBot, simulator.TelegramUser{ID: 700_001, FirstName: "Somebody"}, f.load.Name+": polled")
	s.Sleep(500 * time.Millisecond) // what is written now is on its way
	a.Signal(s.T, syscall.SIGSTOP)
	stopped := time.Now()
	if !harness.FullRun() {
		s.ExpireLeases(s.T.Context())
	}
	b, err := s.StartReplica(s.T.Context(), other...)
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() {
		s.Front.SetTargets(a.Addr)
		s.Terminate(b)
	}()
	harness.Eventually(s.T, "another goes on", func() bool {
		return s.App.Received(asked).Calls > 1 && s.QueryInt(`select count(*) from outbox where text = $1 and status = 'sent'`, "re "+posted) == 1
	})
	if _, polled := s.App.FirstReceivedAfter(harness.PollingBot, stopped); !polled {
		harness.Eventually(s.T, "another polls", func() bool { _, ok := s.App.FirstReceivedAfter(harness.PollingBot, stopped); return ok })
	}
	f.took = time.Since(stopped)
	letGo()
	before := way.rejectedCounts()
	s.Proxies["postgres"].SetState(harness.ProxyUp) // what was on its way arrives
	a.Signal(s.T, syscall.SIGCONT)
	s.Front.SetTargets(a.Addr, b.Addr)
	s.Sleep(2 * time.Second)
	hush()
	if !s.WaitIdle(time.Minute) {
		s.T.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	after := way.rejectedCounts()
	f.rejectedQueueWrites, f.rejectedPollWrites = after["lanes_lease"]-before["lanes_lease"], after["endpoints_poll"]-before["endpoints_poll"]
	read := s.ReplyCounts()
	f.agentReplies, f.slackReplies = read["re "+asked], read["re "+posted]
	return f
}
