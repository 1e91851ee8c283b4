package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A Pacer decides when a reply may be sent, so that all replicas together stay within the limits of the
// provider. It does two things:
//
//   - It spaces the sends of each bot and of each chat by the limits that the provider publishes.
//   - It holds a chat that the provider throttled for as long as the provider asked. If a second chat of
//     the bot is throttled meanwhile, it holds the whole bot. When a hold ends, one send probes; the
//     others wait for its result.
type Pacer interface {
	// Reserve returns how long to wait before a reply to the target may be sent, or zero if it may be
	// sent now. A caller that sends must call Report with the grant.
	Reserve(ctx context.Context, t Target) (g Grant, wait time.Duration)
	// Report records the result of a send.
	Report(ctx context.Context, t Target, g Grant, result SendOutcome)
}

// A Target is the chat that a reply goes to.
type Target struct {
	Bot    string // channel and instance
	Chat   string // hash of the ID of the chat
	Notice bool   // not a reply: it leaves half of the bot's burst to replies
	Limits adapters.SendLimits
}

// newTarget returns the target of a reply. Without limits, holds alone apply.
func newTarget(row gateway.OutboxRow, limited bool) Target {
	hash := sha256.Sum256([]byte(row.Chat.ID))
	t := Target{
		Bot:  string(row.Channel) + ":" + row.InstanceID,
		Chat: base64.RawURLEncoding.EncodeToString(hash[:12]), Notice: row.Cause == "notice" || row.Cause == "reminder",
	}
	if limits := adapters.TraitsOf(row.Channel).SendLimits; limited {
		t.Limits = limits
		if row.Chat.Group && limits.Group != (adapters.Rate{}) {
			t.Limits.Chat = limits.Group
		}
	}
	return t
}

// A Grant is the permission to send one reply.
type Grant struct {
	Probe bool // the first send after a hold
}

// A SendOutcome is what a Pacer needs to know about a send.
type SendOutcome struct {
	Throttled  bool
	RetryAfter time.Duration // that the provider asked for if it throttled the send
	Unclear    bool          // the provider was not reached, or did not answer
}

// Durations of holds.
const (
	// MinHold is the shortest hold, for a provider that throttles without saying for how long.
	MinHold = time.Second
	// MaxHold is the longest hold that is believed.
	MaxHold = 24 * time.Hour
	// ProbeTimeout is how long others wait for the result of a probe. It is longer than a send takes.
	ProbeTimeout = 2 * sendTimeout
	// ProbeWait is how long a send waits until it looks again whether the probe has ended.
	ProbeWait = time.Second
)

// HoldDuration returns how long to hold a chat whose provider asked for retryAfter.
func HoldDuration(retryAfter time.Duration) time.Duration {
	return min(max(retryAfter, MinHold), MaxHold)
}

// Jitter returns wait with up to a tenth added, but at most five seconds, so that waiting conversations
// do not return together. It returns zero for zero.
func Jitter(wait time.Duration) time.Duration {
	if wait <= 0 {
		return 0
	}
	return wait + rand.N(min(wait/10, 5*time.Second)+1)
}

// A LocalPacer paces the sends of one process. The zero value is ready to use. It is safe for concurrent
// use.
type LocalPacer struct {
	Now func() time.Time // default: time.Now

	mu     sync.Mutex
	bots   map[string]*botPace
	visits int // since idle entries were removed
}

type botPace struct {
	pace
	chats map[string]*pace
}

// A pace is the state of a bot or a chat.
type pace struct {
	next  time.Time // when the next send would be due if all were evenly spaced
	hold  time.Time // end of a hold, or zero if none
	probe time.Time // until when others wait for the result of the probe
}

// Reserve implements Pacer.
func (p *LocalPacer) Reserve(_ context.Context, t Target) (g Grant, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	bot, chat := p.find(t)
	for _, s := range []*pace{&bot.pace, chat} {
		if wait := s.heldFor(now); wait > 0 {
			return Grant{}, wait
		}
		g.Probe = g.Probe || !s.hold.IsZero()
	}
	wait = max(bot.waitFor(now, t.Limits.Bot, t.Notice), chat.waitFor(now, t.Limits.Chat, false))
	if wait > 0 {
		return Grant{}, wait
	}
	for _, s := range []*pace{&bot.pace, chat} {
		if !s.hold.IsZero() {
			s.probe = now.Add(ProbeTimeout)
		}
	}
	bot.take(now, t.Limits.Bot)
	chat.take(now, t.Limits.Chat)
	return g, 0
}

// Report implements Pacer.
func (p *LocalPacer) Report(_ context.Context, t Target, g Grant, result SendOutcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	bot, chat := p.find(t)
	if result.Throttled {
		until := now.Add(HoldDuration(result.RetryAfter))
		if !bot.hold.IsZero() || bot.hasOtherHold(t.Chat, now) {
			bot.hold, bot.probe = maxTime(bot.hold, until), time.Time{}
		}
		chat.hold, chat.probe = maxTime(chat.hold, until), time.Time{}
		return
	}
	if !g.Probe {
		return
	}
	for _, s := range []*pace{&bot.pace, chat} {
		s.probe = time.Time{}
		if !result.Unclear && !s.hold.After(now) {
			s.hold = time.Time{}
		}
	}
}

// A SharedPace is what several processes know about a target together: how far the next send of the bot and
// of the chat would be ahead if all were evenly spaced, and how long they are held.
type SharedPace struct {
	BotNext, ChatNext time.Duration
	BotHold, ChatHold time.Duration
}

// Sync adds a shared state of a target to what p knows.
func (p *LocalPacer) Sync(t Target, shared SharedPace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	bot, chat := p.find(t)
	bot.next, chat.next = maxTime(bot.next, now.Add(shared.BotNext)), maxTime(chat.next, now.Add(shared.ChatNext))
	if shared.BotHold > 0 {
		bot.hold = maxTime(bot.hold, now.Add(shared.BotHold))
	}
	if shared.ChatHold > 0 {
		chat.hold = maxTime(chat.hold, now.Add(shared.ChatHold))
	}
}

func (p *LocalPacer) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// find returns the state of the bot and the chat of t. The caller must hold p.mu.
func (p *LocalPacer) find(t Target) (*botPace, *pace) {
	if p.visits++; p.visits > 10_000 {
		p.removeIdle()
	}
	if p.bots == nil {
		p.bots = map[string]*botPace{}
	}
	bot := p.bots[t.Bot]
	if bot == nil {
		bot = &botPace{chats: map[string]*pace{}}
		p.bots[t.Bot] = bot
	}
	chat := bot.chats[t.Chat]
	if chat == nil {
		chat = &pace{}
		bot.chats[t.Chat] = chat
	}
	return bot, chat
}

// removeIdle removes the bots and chats whose state no longer matters.
func (p *LocalPacer) removeIdle() {
	now := p.now()
	p.visits = 0
	for name, bot := range p.bots {
		for id, chat := range bot.chats {
			if chat.isIdle(now) {
				delete(bot.chats, id)
			}
		}
		if len(bot.chats) == 0 && bot.isIdle(now) {
			delete(p.bots, name)
		}
	}
}

// isIdle reports whether s does not delay a send. A hold that has ended is kept for an hour, so that one
// send probes.
func (s *pace) isIdle(now time.Time) bool {
	return s.next.Before(now) && s.hold.Add(time.Hour).Before(now)
}

// heldFor returns how long to wait for the end of a hold, or for the result of its probe.
func (s *pace) heldFor(now time.Time) time.Duration {
	switch {
	case s.hold.IsZero():
		return 0
	case s.hold.After(now):
		return s.hold.Sub(now)
	case s.probe.After(now):
		return ProbeWait
	}
	return 0
}

// waitFor returns how long to wait for the next send by a rate. A notice waits until half of the burst is
// free.
func (s *pace) waitFor(now time.Time, r adapters.Rate, notice bool) time.Duration {
	if r.Every == 0 {
		return 0
	}
	burst := r.Burst - 1
	if notice {
		burst /= 2
	}
	return s.next.Add(-time.Duration(burst) * r.Every).Sub(now)
}

func (s *pace) take(now time.Time, r adapters.Rate) {
	s.next = maxTime(s.next, now).Add(r.Every)
}

// hasOtherHold reports whether another chat of the bot is held.
func (b *botPace) hasOtherHold(chat string, now time.Time) bool {
	for id, s := range b.chats {
		if id != chat && s.hold.After(now) {
			return true
		}
	}
	return false
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
