-- load: what a tenure starts from, and that it starts. Fenced; writes only where something waits, and once per token.
-- KEYS  1 fence  2 cursor  3 done  4 tail  5 waiting
-- ARGV  1 token
-- reply {prefix, tail, facts, waiting, starts, suspect, strikes}: facts as in `done`, those behind the prefix included;
--       waiting as field, value, …; suspect 0 where there is none
-- An error midway cannot be: after the first write nothing is refused, and no command below can fail on these types.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
local cursor = redis.call('HMGET', KEYS[2], 'prefix', 'starts', 'began', 'reading', 'suspect')
local prefix, starts, began, reading = tonumber(cursor[1] or '1'), tonumber(cursor[2] or '0'), cursor[3], cursor[4]
local suspect, strikes = string.match(cursor[5] or '0:0', '^(%d+):(%d+)$')
local tail = tonumber(redis.call('HGET', KEYS[4], 'next') or '1')

local is_new = not began or tonumber(ARGV[1]) > tonumber(began)
if is_new and (prefix < tail or starts > 0 or reading) then
  run_even_when_full(KEYS[1])
  starts = prefix < tail and starts + 1 or 0
  redis.call('HSET', KEYS[2], 'starts', number_text(starts), 'began', ARGV[1])
  if reading then -- the tenure before this one ended while it read that: once more is twice
    strikes = reading == suspect and tonumber(strikes) + 1 or 1
    suspect = reading
    redis.call('HSET', KEYS[2], 'suspect', suspect .. ':' .. number_text(strikes))
    redis.call('HDEL', KEYS[2], 'reading')
  end
end
if tonumber(suspect) < prefix then
  suspect, strikes = 0, 0
end
local facts, waiting = redis.call('HKEYS', KEYS[3]), redis.call('HGETALL', KEYS[5])
return {prefix, tail, facts, waiting, starts, tonumber(suspect), tonumber(strikes)}
