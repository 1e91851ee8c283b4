package outbox

import (
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A paceClock is a LocalPacer with a clock that stands still.
type paceClock struct {
	LocalPacer
	t   *testing.T
	now time.Time
}

func newPaceClock(t *testing.T) *paceClock {
	p := &paceClock{t: t, now: time.Unix(1_800_000_000, 0)}
	p.Now = func() time.Time { return p.now }
	return p
}

func target(chat string, limits adapters.SendLimits) Target {
	return Target{Bot: "telegram:1", Chat: chat, Limits: limits}
}

// send reserves and, if that succeeds, reports a result. It returns the wait.
func (p *paceClock) send(t Target, result SendOutcome) (wait time.Duration, probe bool) {
	g, wait := p.Reserve(p.t.Context(), t)
	if wait == 0 {
		p.Report(p.t.Context(), t, g, result)
	}
	return wait, g.Probe
}

// require fails the test unless a send to a chat must wait that long.
func (p *paceClock) require(t Target, want time.Duration) {
	p.t.Helper()
	if got, _ := p.send(t, SendOutcome{}); got != want {
		p.t.Errorf("wait of chat %s = %v, want %v", t.Chat, got, want)
	}
}

func TestLocalPacer_Rates(t *testing.T) {
	p := newPaceClock(t)
	limits := adapters.SendLimits{
		Bot:  adapters.Rate{Every: 100 * time.Millisecond, Burst: 4},
		Chat: adapters.Rate{Every: time.Second, Burst: 2},
	}
	p.require(target("a", limits), 0)
	p.require(target("a", limits), 0)
	p.require(target("a", limits), time.Second) // the burst of the chat
	notice := target("c", limits)
	notice.Notice = true
	p.require(notice, 100*time.Millisecond) // leaves the rest of the bot's burst to replies
	p.require(target("b", limits), 0)
	p.require(target("c", limits), 0)
	p.require(target("d", limits), 100*time.Millisecond) // the burst of the bot
	p.require(Target{Bot: "telegram:2", Chat: "a", Limits: limits}, 0)
	p.now = p.now.Add(100 * time.Millisecond)
	p.require(target("d", limits), 0)
	p.now = p.now.Add(time.Hour)
	for range 2 {
		p.require(target("a", limits), 0) // no more than the burst is saved up
	}
	p.require(target("a", limits), time.Second)
}

// TestLocalPacer_Holds tests that one throttled chat holds only itself, that a second one holds the bot,
// and that one send probes after each hold.
func TestLocalPacer_Holds(t *testing.T) {
	p := newPaceClock(t)
	none := adapters.SendLimits{}
	a, b, c := target("a", none), target("b", none), target("c", none)
	throttled := func(d time.Duration) SendOutcome { return SendOutcome{Throttled: true, RetryAfter: d} }
	p.send(a, throttled(6775*time.Second))
	p.require(a, 6775*time.Second)
	p.require(b, 0)
	p.now = p.now.Add(10 * time.Second)
	p.send(b, throttled(20*time.Second))
	p.require(c, 20*time.Second) // the bot

	p.now = p.now.Add(20 * time.Second)
	g, wait := p.Reserve(t.Context(), c)
	if !g.Probe || wait != 0 {
		t.Fatalf("Reserve() after the hold = %+v, %v, want a probe", g, wait)
	}
	p.require(b, ProbeWait) // one probe at a time
	p.Report(t.Context(), c, g, SendOutcome{Unclear: true})
	g, wait = p.Reserve(t.Context(), c)
	if !g.Probe || wait != 0 {
		t.Fatalf("Reserve() after an unclear probe = %+v, %v, want another probe", g, wait)
	}
	p.Report(t.Context(), c, g, throttled(5*time.Second))
	p.require(b, 5*time.Second) // the probe failed
	p.now = p.now.Add(5 * time.Second)
	if wait, probe := p.send(c, SendOutcome{}); wait != 0 || !probe {
		t.Errorf("second probe: wait = %v, probe = %v", wait, probe)
	}
	p.require(c, 0)
	if wait, probe := p.send(b, SendOutcome{}); wait != 0 || !probe {
		t.Errorf("the chat probes for itself: wait = %v, probe = %v", wait, probe)
	}
	p.require(a, 6775*time.Second-35*time.Second)

	// A probe whose sender died is repeated.
	p.now = p.now.Add(6775 * time.Second)
	p.Reserve(t.Context(), a)
	p.require(a, ProbeWait)
	p.now = p.now.Add(ProbeTimeout)
	p.require(a, 0)
}

func TestLocalPacer_RemovesIdle(t *testing.T) {
	p := newPaceClock(t)
	limits := adapters.SendLimits{Chat: adapters.Rate{Every: time.Second, Burst: 1}}
	p.send(target("held", limits), SendOutcome{Throttled: true, RetryAfter: 12 * time.Hour})
	for i := range 25_000 {
		p.now = p.now.Add(time.Second)
		p.require(target(string(rune(i)), limits), 0)
	}
	if n := len(p.bots["telegram:1"].chats); n > 10_002 {
		t.Errorf("%d chats are remembered, want the recent ones", n)
	}
	p.require(target("held", limits), 12*time.Hour-25_000*time.Second)
}

func TestNewTarget(t *testing.T) {
	row := gateway.OutboxRow{InstanceID: "i", Channel: adapters.Telegram, Chat: adapters.Chat{ID: "-100", Group: true}}
	group, unlimited := newTarget(row, true), newTarget(row, false)
	row.Chat.Group = false
	direct := newTarget(row, true)
	if group.Limits.Chat.Every != 3*time.Second || direct.Limits.Chat.Every != time.Second ||
		unlimited.Limits != (adapters.SendLimits{}) || group.Chat != direct.Chat || group.Chat == "-100" {
		t.Errorf("targets = %+v, %+v, %+v", group, direct, unlimited)
	}
}
