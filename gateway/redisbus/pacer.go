// Package redisbus shares short-lived state between replicas over Redis. Whatever it holds may be lost:
// the replicas then go on with what each of them knows.
package redisbus

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"hydragate/gateway/outbox"
)

// A Pacer paces the sends of all replicas together; see outbox.Pacer. While Redis is unavailable, each
// replica paces its own sends. It goes on from the state that Redis returned last, so that an outage of
// Redis, however short, does not allow another burst, and knows the holds that it has seen.
//
// Use one Pacer for all sends of a process. It is safe for concurrent use.
type Pacer struct {
	Redis redis.UniversalClient
	Log   *slog.Logger
	// Timeout of a call of Redis, for which a send waits. It is 100 ms by default.
	Timeout time.Duration

	local     outbox.LocalPacer
	downUntil atomic.Int64 // Unix time in nanoseconds before which Redis is not asked again
}

const (
	defaultTimeout = 100 * time.Millisecond
	retryDelay     = time.Second // before Redis is asked again after a failure
)

// Reserve implements outbox.Pacer.
func (p *Pacer) Reserve(ctx context.Context, t outbox.Target) (g outbox.Grant, wait time.Duration) {
	notice := 0
	if t.Notice {
		notice = 1
	}
	bot, chat := t.Limits.Bot, t.Limits.Chat
	reply, ok := p.run(ctx, reserveScript, t,
		bot.Every.Microseconds(), bot.Burst, chat.Every.Microseconds(), chat.Burst, notice,
		outbox.ProbeTimeout.Microseconds(), outbox.ProbeWait.Microseconds())
	if !ok {
		return p.local.Reserve(ctx, t)
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	p.local.Sync(t, outbox.SharedPace{
		BotNext: us(reply[2]), ChatNext: us(reply[3]), BotHold: us(reply[4]), ChatHold: us(reply[5]),
	})
	return outbox.Grant{Probe: reply[1] == 1}, time.Duration(reply[0]) * time.Microsecond
}

// Report implements outbox.Pacer.
func (p *Pacer) Report(ctx context.Context, t outbox.Target, g outbox.Grant, result outbox.SendOutcome) {
	if !result.Throttled && !g.Probe {
		return
	}
	p.local.Report(ctx, t, g, result)
	outcome := "done"
	switch {
	case result.Throttled:
		outcome = "throttled"
	case result.Unclear:
		outcome = "unclear"
	}
	p.run(ctx, reportScript, t, outcome, outbox.HoldDuration(result.RetryAfter).Microseconds())
}

// run runs a script. ok is false if Redis is unavailable. Neither a name nor a text of a person is sent
// to Redis, only the hash of the chat.
func (p *Pacer) run(ctx context.Context, s *redis.Script, t outbox.Target, args ...any) (reply []int64, ok bool) {
	now := time.Now()
	if now.UnixNano() < p.downUntil.Load() {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, defaultTimeout))
	defer cancel()
	prefix := "hydragate:pace:{" + t.Bot + "}"
	reply, err := s.Run(ctx, p.Redis, []string{prefix, prefix + ":" + t.Chat, prefix + ":held"}, args...).Int64Slice()
	if err != nil {
		p.downUntil.Store(now.Add(retryDelay).UnixNano())
		p.Log.DebugContext(ctx, "send limits are not shared, redis unavailable", "error", err)
		return nil, false
	}
	return reply, true
}

// The keys of a bot have one hash tag, so that they are in one slot of a cluster. KEYS[1] and KEYS[2] are
// hashes of the bot and of the chat with the times next, hold and probe of outbox.LocalPacer, which does
// the same for one process; KEYS[3] is a sorted set of the held chats by the end of their holds. Times are
// in microseconds by the clock of Redis.

// ARGV: interval and burst of the bot and of the chat, 1 for a notice, duration and wait of a probe.
// Returns how long to wait, or 0, and 1 if the send is a probe; then how far next of the bot and of the chat
// are ahead, and how long the bot and the chat are held.
var reserveScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local state, probe, wait = {}, 0, 0
local function answer(wait, probe)
  local r = {wait, probe, 0, 0, 0, 0}
  for i = 1, 2 do
    if state[i] then
      r[2 + i] = math.max(state[i].next - now, 0)
      r[4 + i] = math.max(state[i].hold - now, 0)
    end
  end
  return r
end
for i = 1, 2 do
  local r = redis.call('HMGET', KEYS[i], 'next', 'hold', 'probe')
  local s = {next = tonumber(r[1] or 0), hold = tonumber(r[2] or 0), probe = tonumber(r[3] or 0)}
  state[i] = s
  if s.hold > now then
    return answer(s.hold - now, 0)
  end
  if s.hold > 0 then
    if s.probe > now then
      return answer(tonumber(ARGV[7]), 0)
    end
    probe = 1
  end
  local every, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i]) - 1
  if i == 1 and ARGV[5] == '1' then
    burst = math.floor(burst / 2)
  end
  if every > 0 then
    wait = math.max(wait, s.next - burst * every - now)
  end
end
if wait > 0 then
  return answer(wait, 0)
end
for i = 1, 2 do
  local s, every = state[i], tonumber(ARGV[2 * i - 1])
  if s.hold > 0 then
    redis.call('HSET', KEYS[i], 'probe', string.format('%.0f', now + ARGV[6]))
  end
  if every > 0 then
    s.next = math.max(s.next, now) + every
    redis.call('HSET', KEYS[i], 'next', string.format('%.0f', s.next))
    if s.hold == 0 then
      redis.call('PEXPIRE', KEYS[i], math.ceil((s.next - now) / 1000) + 1000)
    end
  end
end
return answer(0, probe)
`)

// ARGV: throttled, unclear or done; duration of the hold. Returns the ends of the holds of the bot and
// the chat, or 0.
var reportScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local ends = {0, 0}
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local bot = tonumber(redis.call('HGET', KEYS[1], 'hold') or 0)
if ARGV[1] == 'throttled' then
  redis.call('ZREM', KEYS[3], KEYS[2])
  local others = redis.call('ZCARD', KEYS[3])
  for i = 1, 2 do
    if i == 2 or bot > 0 or others > 0 then
      local hold = math.max(tonumber(redis.call('HGET', KEYS[i], 'hold') or 0), now + ARGV[2])
      redis.call('HSET', KEYS[i], 'hold', string.format('%.0f', hold))
      redis.call('HDEL', KEYS[i], 'probe')
      redis.call('PEXPIRE', KEYS[i], math.ceil((hold - now) / 1000) + 3600000)
      ends[i] = hold
    end
  end
  redis.call('ZADD', KEYS[3], ends[2], KEYS[2])
  redis.call('PEXPIRE', KEYS[3], math.ceil((ends[2] - now) / 1000) + 3600000)
  return ends
end
for i = 1, 2 do
  redis.call('HDEL', KEYS[i], 'probe')
  local hold = tonumber(redis.call('HGET', KEYS[i], 'hold') or 0)
  if ARGV[1] == 'done' and hold <= now then
    redis.call('HDEL', KEYS[i], 'hold')
  end
end
return ends
`)
