package rediscode

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// The scripts work on one key each, the one they declare: a hash with the
// generation g, the keyed hash m, the wrong tries f, and in s the ids of the
// messages that were counted, each between line feeds.

// putScript keeps a proof unless one as new is there.
// ARGV: generation, keyed hash, milliseconds to keep it.
const putScript = `
local g = redis.call('HGET', KEYS[1], 'g')
if g and tonumber(g) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'g', ARGV[1], 'm', ARGV[2], 'f', '0', 's', '\n')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`

// checkScript compares and counts. A message that was counted gets its answer
// again. ARGV: generation, message id, most tries, then a keyed hash for each key.
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

// dropScript deletes a proof of the generation ARGV[1].
const dropScript = `
if redis.call('HGET', KEYS[1], 'g') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`

// A script is one run of a script on one key.
type script struct {
	text string
	key  string
	args []any
}

// evalSHA asks for a run by the script's name. On a pipeline the answer comes with
// Exec.
func (s script) evalSHA(ctx context.Context, to redis.Scripter) *redis.Cmd {
	return redis.NewScript(s.text).EvalSha(ctx, to, []string{s.key}, s.args...)
}

// result gives the answer to a run that was queued. A server that does not have the
// script yet, after a restart or a failover, is sent it.
func (s script) result(ctx context.Context, on redis.Scripter, queued *redis.Cmd) (any, error) {
	answer, err := queued.Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return redis.NewScript(s.text).Eval(ctx, on, []string{s.key}, s.args...).Result()
	}
	return answer, err
}
