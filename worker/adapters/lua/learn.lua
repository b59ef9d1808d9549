-- learn: keep which phone form a LID belongs to. Facts, not state: not fenced, may be repeated.
-- KEYS  1 aliases
-- ARGV  1 kept at most  2 given way per call at most  then, at least once: field (<instance>\0<lid>), phone form
-- reply OK. An error midway leaves some facts unlearnt, or some more than the bound; the next call heals both.

run_even_when_full(KEYS[1]) -- the checkpoint that would free memory waits for it, and the table is bounded
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
-- Any may give way: who is asked for again is not known here, and what is forgotten is learnt again.
local excess = math.min(redis.call('HLEN', KEYS[1]) - tonumber(ARGV[1]), tonumber(ARGV[2]))
if excess > 0 then
  redis.call('HDEL', KEYS[1], unpack(redis.call('HRANDFIELD', KEYS[1], excess)))
end
return redis.status_reply('OK')
