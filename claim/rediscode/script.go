package rediscode

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Each script uses only the key that it declares: a hash with the generation g, the keyed hash
// of the code m, the number of wrong tries f, and in s the IDs of the messages that were counted,
// separated by line feeds.

// putScript stores a code unless one of the same or a newer generation is stored.
// ARGV: generation, keyed hash, lifetime in milliseconds.
const putScript = `
local g = redis.call('HGET', KEYS[1], 'g')
if g and tonumber(g) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'g', ARGV[1], 'm', ARGV[2], 'f', '0', 's', '\n')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`

// checkScript compares a code and counts wrong tries. A message that was already counted gets the
// same reply again. ARGV: generation, message ID, maximum tries, then one keyed hash per key.
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

// dropScript deletes the code of generation ARGV[1].
const dropScript = `
if redis.call('HGET', KEYS[1], 'g') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`

// A script is one call of a script on one key.
type script struct {
	text string
	key  string
	args []any
}

// evalSHA queues a call of the script by its hash. On a pipeline the reply is available after
// Exec.
func (s script) evalSHA(ctx context.Context, to redis.Scripter) *redis.Cmd {
	return redis.NewScript(s.text).EvalSha(ctx, to, []string{s.key}, s.args...)
}

// result returns the reply to a queued call. If the server does not have the script, after a
// restart or failover, result calls it again with its source.
func (s script) result(ctx context.Context, on redis.Scripter, queued *redis.Cmd) (any, error) {
	reply, err := queued.Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return redis.NewScript(s.text).Eval(ctx, on, []string{s.key}, s.args...).Result()
	}
	return reply, err
}
