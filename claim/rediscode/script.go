package rediscode

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Each script uses only the keys that it declares. KEYS[1] is a hash with the generation g, the keyed
// hash of the code m, the number of wrong tries f, in s the IDs of the messages that were counted,
// separated by line feeds, and in x the key of the index entry of the code. A script that changes the
// code changes its index entry in the same step. It gets the key of the present entry from its caller,
// and returns -1 if that is outdated.

// putScript stores a code, and removes the index entry of the previous one, unless a code of the same
// or a newer generation is stored. KEYS: code, its index entry, present index entry.
// ARGV: generation, keyed hash, lifetime in milliseconds, identity, channel.
const putScript = `
local r = redis.call('HMGET', KEYS[1], 'g', 'x')
if r[1] and tonumber(r[1]) >= tonumber(ARGV[1]) then
  return 0
end
if r[2] and r[2] ~= KEYS[3] then
  return -1
end
if r[1] and string.find(redis.call('GET', KEYS[3]) or '', ARGV[4] .. ':' .. r[1] .. ':', 1, true) == 1 then
  redis.call('DEL', KEYS[3])
end
redis.call('SET', KEYS[2], ARGV[4] .. ':' .. ARGV[1] .. ':' .. ARGV[5], 'PX', ARGV[3])
redis.call('HSET', KEYS[1], 'g', ARGV[1], 'm', ARGV[2], 'f', '0', 's', '\n', 'x', KEYS[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`

// checkScript compares a code and counts wrong tries. A message that was already counted gets the
// same reply again. KEYS: code. ARGV: generation, message ID, maximum tries, then one keyed hash per
// secret.
const checkScript = `
local r = redis.call('HMGET', KEYS[1], 'g', 'm', 'f', 's')
if not r[1] or ARGV[1] == '0' then
  return {'missing', 0}
end
if r[1] ~= ARGV[1] then
  return {'stale', 0}
end
local tries = tonumber(r[3])
if string.find(r[4], '\n' .. ARGV[2] .. '\n', 1, true) then
  return {'wrong', tries}
end
if tries >= tonumber(ARGV[3]) then
  return {'locked', tries}
end
for i = 4, #ARGV do
  if ARGV[i] == r[2] then
    return {'match', tries}
  end
end
redis.call('HSET', KEYS[1], 's', r[4] .. ARGV[2] .. '\n')
return {'wrong', redis.call('HINCRBY', KEYS[1], 'f', 1)}
`

// dropScript deletes the code of generation ARGV[1] and its index entry. KEYS: code, present index
// entry. ARGV: generation, identity.
const dropScript = `
local r = redis.call('HMGET', KEYS[1], 'g', 'x')
if r[1] ~= ARGV[1] then
  return 0
end
if r[2] and r[2] ~= KEYS[2] then
  return -1
end
if string.find(redis.call('GET', KEYS[2]) or '', ARGV[2] .. ':' .. ARGV[1] .. ':', 1, true) == 1 then
  redis.call('DEL', KEYS[2])
end
redis.call('DEL', KEYS[1])
return 1
`

// A script is one call of a script on its keys.
type script struct {
	text string
	keys []string
	args []any
}

// evalSHA queues a call of the script by its hash. On a pipeline the reply is available after
// Exec.
func (s script) evalSHA(ctx context.Context, to redis.Scripter) *redis.Cmd {
	return redis.NewScript(s.text).EvalSha(ctx, to, s.keys, s.args...)
}

// result returns the reply to a queued call. If the server does not have the script, after a
// restart or failover, result calls it again with its source.
func (s script) result(ctx context.Context, on redis.Scripter, queued *redis.Cmd) (any, error) {
	reply, err := queued.Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return redis.NewScript(s.text).Eval(ctx, on, s.keys, s.args...).Result()
	}
	return reply, err
}
