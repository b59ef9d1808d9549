-- load: what a tenure starts from. Fenced; writes nothing.
-- KEYS  1 fence  2 cursor  3 done  4 tail  5 waiting
-- ARGV  1 token
-- reply {prefix, tail, facts, waiting}: facts as in `done`, those behind the prefix included; waiting as field, value, …

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
local prefix = redis.call('HGET', KEYS[2], 'prefix') or '1'
local tail = redis.call('HGET', KEYS[4], 'next') or '1'
return {tonumber(prefix), tonumber(tail), redis.call('HKEYS', KEYS[3]), redis.call('HGETALL', KEYS[5])}
