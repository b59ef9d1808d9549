-- checkpoint: add what is done. Fenced.
-- KEYS  1 fence  2 cursor  3 done  4 waiting  5 tail  6 marks
-- ARGV  1 token  2 number  3 prefix  4 facts (count)  5 facts behind (count)  6 ms between marks  7 marks at most
--       then the facts, the facts behind, and per tenant: tenant, events, bytes
-- reply the tail: the position of the next event; nothing is written when the checkpoint speaks of positions beyond it
-- An error midway: facts and prefix are added in an order in which each state is true by itself; `freed` may be counted
-- again by the repeat, which the recount of the next tenure heals.

local HEADER = 7

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
run_even_when_full(KEYS[1])

local tail = redis.call('HMGET', KEYS[5], 'next', 'bytes')
local next_position = tonumber(tail[1] or '1')
local facts, behind = tonumber(ARGV[4]), tonumber(ARGV[5])

-- Positions that this journal has not given out: the store went back since the caller read them, and would give them to others.
local function speaks_beyond()
  if tonumber(ARGV[3]) > next_position then
    return true
  end
  for i = HEADER + 1, HEADER + facts do
    if tonumber(string.match(ARGV[i], '^%d+')) >= next_position then
      return true
    end
  end
  return false
end

if speaks_beyond() then
  return next_position
end

local saved = redis.call('HMGET', KEYS[2], 'prefix', 'checkpoint')
local prefix = math.max(tonumber(saved[1] or '1'), tonumber(ARGV[3]))

for i = HEADER + 1, HEADER + facts do
  if tonumber(string.match(ARGV[i], '^%d+')) >= prefix then
    redis.call('HSET', KEYS[3], ARGV[i], 1)
  end
end
redis.call('HSET', KEYS[2], 'prefix', number_text(prefix), 'starts', 0) -- whoever saves has survived what it read
for i = HEADER + facts + 1, HEADER + facts + behind do
  if tonumber(string.match(ARGV[i], '^%d+')) < prefix then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end

local token, number = string.match(saved[2] or '0:0', '^(%d+):(%d+)$')
local is_repeat = tonumber(token) == tonumber(ARGV[1]) and tonumber(number) >= tonumber(ARGV[2])
if not is_repeat then
  for i = HEADER + facts + behind + 1, #ARGV, 3 do
    redis.call('HINCRBY', KEYS[4], ARGV[i] .. '|n', number_text(0 - tonumber(ARGV[i + 1])))
    redis.call('HINCRBY', KEYS[4], ARGV[i] .. '|b', number_text(0 - tonumber(ARGV[i + 2])))
  end
  redis.call('HSET', KEYS[2], 'checkpoint', ARGV[1] .. ':' .. ARGV[2])
end

local newest = redis.call('ZREVRANGE', KEYS[6], 0, 0, 'WITHSCORES')
local now = now_ms()
if not newest[1] or now - tonumber(newest[2]) >= tonumber(ARGV[6]) then
  redis.call('ZADD', KEYS[6], number_text(now), (tail[1] or '1') .. '|' .. (tail[2] or '0'))
  redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -1 - tonumber(ARGV[7]))
end
return next_position
