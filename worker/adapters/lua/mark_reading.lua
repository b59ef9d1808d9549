-- mark_reading: which event is read carefully now, written before anything of it is touched; or that it was survived. Fenced.
-- KEYS  1 fence  2 cursor
-- ARGV  1 token  2 position, or empty
-- reply 1
-- An error midway cannot be: after the first write nothing is refused.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
run_even_when_full(KEYS[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[2], 'reading', ARGV[2])
  return 1
end
local marks = redis.call('HMGET', KEYS[2], 'reading', 'suspect')
redis.call('HDEL', KEYS[2], 'reading')
if marks[1] and marks[2] and string.match(marks[2], '^%d+') == marks[1] then
  redis.call('HDEL', KEYS[2], 'suspect')
end
return 1
