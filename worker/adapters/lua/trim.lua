-- trim: forget delivered segments that are old enough, or too many. Fenced.
-- KEYS  1 fence  2 cursor  3 journal  4 marks  5 tail
-- ARGV  1 token  2 keep_ms  3 keep_bytes  4 segments at most in this call
-- reply {segments removed, 1 when there may be more}
-- An error midway leaves entries or marks that the next call removes.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
local NO_SEGMENT_IS_LONGER = '-18446744073709551615'

local function mark_at(rank)
  local mark = redis.call('ZRANGE', KEYS[4], rank, rank)[1]
  local position, bytes = string.match(mark, '^(%d+)|(%d+)$')
  return tonumber(position), tonumber(bytes)
end

-- Marks rise in time, position and bytes alike: how many of them have at least `keep_bytes` appended after them.
local function marks_with_enough_behind(count, appended)
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    local _, bytes = mark_at(middle)
    if appended - bytes >= tonumber(ARGV[3]) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local appended = tonumber(redis.call('HGET', KEYS[5], 'bytes') or '0')
local old = redis.call('ZCOUNT', KEYS[4], '-inf', number_text(now_ms() - tonumber(ARGV[2])))
local passed = math.max(old, marks_with_enough_behind(redis.call('ZCARD', KEYS[4]), appended))
local cut = tonumber(redis.call('HGET', KEYS[2], 'prefix') or '1')
if tonumber(ARGV[3]) > 0 then -- 0: nothing is kept, not even what is younger than the newest mark
  if passed == 0 then
    return {0, 0}
  end
  cut = math.min(mark_at(passed - 1), cut)
end
local last = redis.call('XREVRANGE', KEYS[3], number_text(cut - 1) .. NO_SEGMENT_IS_LONGER, '-', 'COUNT', 1)[1]
if last then
  local first, count = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(first) + tonumber(count) > cut then
    cut = tonumber(first) -- the prefix lies inside this segment: it stays whole
  end
end

-- Node by node first, which is cheap and can be bounded; what is left of the last node exactly.
local limit = tonumber(ARGV[4])
local removed = redis.call('XTRIM', KEYS[3], 'MINID', '~', number_text(cut), 'LIMIT', limit)
if removed > limit / 2 then
  return {removed, 1}
end
removed = removed + redis.call('XTRIM', KEYS[3], 'MINID', number_text(cut))
if passed > 1 then -- the mark that was used stays: the next cut is measured against it
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, passed - 2)
end
return {removed, 0}
