package recovery

import (
	"syscall"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// maxTakeover is the maximum time until another replica takes over the work of a frozen one.
const maxTakeover = 15 * time.Second

// TestFrozenReplica_WritesFenced stops a gateway with SIGSTOP while it polls, processes messages,
// waits for the application and for a provider, and has statements in flight to the database. It
// resumes the gateway after another replica has taken over. The late writes must be rejected by
// the fences of the leases. No message may be lost or stored twice, and no reply sent twice except
// those that were in flight.
//
// With HYDRAGATE_TEST_LONG=1 it runs three times and waits for the leases to expire; otherwise it
// expires them in the database.
func TestFrozenReplica_WritesFenced(t *testing.T) {
	harness.RequireFullRun(t)
	s, a := harness.Start(t, harness.Options{})
	other := []string{"HYDRAGATE_DATABASE_URL=" + s.SecondPostgresProxy(), "HYDRAGATE_DATA_DIR=" + t.TempDir()}
	proxy := harness.InsertCommitLossProxy(t, s.Proxies["postgres"])
	s.Replicated = true
	pollWrites := 0
	for range harness.Scaled(1, 3) {
		f := freezeReplica(s, a, proxy, other, harness.Scaled(4, 10))
		t.Logf("taken over after %s; %d late queue writes and %d late poll writes rejected",
			f.took.Round(time.Millisecond), f.rejectedQueueWrites, f.rejectedPollWrites)
		pollWrites += f.rejectedPollWrites
		if f.took > maxTakeover || f.rejectedQueueWrites == 0 {
			t.Errorf("takeover after %s with %d rejected writes, want at most %s and some rejected",
				f.took, f.rejectedQueueWrites, maxTakeover)
		}
		if f.agentReplies != 1 || f.slackReplies != 1 {
			t.Errorf("reply of an event delivered twice sent %d times, in flight to Slack %d times; want 1 and 1",
				f.agentReplies, f.slackReplies)
		}
		f.load.RequireComplete(4*len(f.load.Users), app.OutboxSize)
	}
	if harness.FullRun() && pollWrites == 0 {
		t.Error("rejected poll writes = 0, want some")
	}
	s.CheckLog()

	t.Run("control: without the fences of the leases", func(t *testing.T) {
		s.Exec(`alter table lanes drop constraint lanes_lease`)
		s.Exec(`alter table endpoints drop constraint endpoints_poll`)
		if f := freezeReplica(s, a, proxy, other, 2); f.agentReplies < 2 {
			t.Errorf("replies without the fences = %d, want at least 2", f.agentReplies)
		}
	})
}

// freezeResult is the result of one freeze.
type freezeResult struct {
	load                                    *harness.MessageLoad
	took                                    time.Duration // until the other replica took over
	rejectedQueueWrites, rejectedPollWrites int           // late writes rejected by a fence
	agentReplies, slackReplies              int           // how often the two replies in flight were sent
}

// freezeReplica stops replica a in the middle of its work, starts another replica with the
// settings in other, waits until that one has taken over, and resumes a. The other replica has its
// own connection to the database and is stopped at the end.
func freezeReplica(
	s *harness.Harness, a *harness.Process, proxy *harness.CommitLossProxy, other []string, users int,
) (f freezeResult) {
	s.T.Helper()
	f.load = s.NewLoad(users)
	stop := f.load.SendInBackground(100 * time.Millisecond)
	s.Sleep(500 * time.Millisecond)
	delivered, replied := f.load.Name+": delivered", f.load.Name+": replied"
	blocked, unblock := s.App.BlockFirstCall(delivered)
	s.Telegram.SendText(harness.TelegramBot, simulator.TelegramUser{ID: 700_000, FirstName: "Steve"}, delivered)
	<-blocked
	s.Slack.Arm("chat.postMessage", simulator.Fault{Hang: true}) // may also hit another reply, which then hangs too
	s.SlackUser("U70000").Send(s.T.Context(), replied)
	harness.Eventually(s.T, "Slack receives the reply", func() bool { return s.ReplyCounts()["re "+replied] > 0 })

	s.Proxies["postgres"].SetState(harness.ProxyFrozen)
	polledUser := simulator.TelegramUser{ID: 700_001, FirstName: "Steve"}
	s.Telegram.SendText(harness.PollingBot, polledUser, f.load.Name+": polled")
	s.Sleep(500 * time.Millisecond) // statements sent now stay in flight
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
	const sentReplies = `select count(*) from outbox where text = $1 and status = 'sent'`
	harness.Eventually(s.T, "the other replica processes the messages", func() bool {
		return s.App.Received(delivered).Calls > 1 && s.QueryInt(sentReplies, "re "+replied) == 1
	})
	if _, polled := s.App.FirstReceivedAfter(harness.PollingBot, stopped); !polled {
		harness.Eventually(s.T, "the other replica polls", func() bool {
			_, ok := s.App.FirstReceivedAfter(harness.PollingBot, stopped)
			return ok
		})
	}
	f.took = time.Since(stopped)
	unblock()
	before := proxy.RejectedCounts()
	s.Proxies["postgres"].SetState(harness.ProxyUp) // the statements in flight arrive
	a.Signal(s.T, syscall.SIGCONT)
	s.Front.SetTargets(a.Addr, b.Addr)
	s.Sleep(2 * time.Second)
	stop()
	s.RequireIdle(harness.EventTimeout)
	after := proxy.RejectedCounts()
	f.rejectedQueueWrites = after["lanes_lease"] - before["lanes_lease"]
	f.rejectedPollWrites = after["endpoints_poll"] - before["endpoints_poll"]
	replies := s.ReplyCounts()
	f.agentReplies, f.slackReplies = replies["re "+delivered], replies["re "+replied]
	return f
}
