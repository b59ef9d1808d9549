-- once_end: the call has its final answer, or is left for whoever calls next.
-- KEYS  1 record
-- ARGV  1 holder  2 answer; none: left
-- reply 1 done (also when done before), 0 the lease is somebody else's or the record is gone

local found = redis.call('HMGET', KEYS[1], 'holder', 'answer')
if found[1] ~= ARGV[1] then
  return 0
end
if not found[2] then
  -- The first write of a script is what Redis refuses at maxmemory; PEXPIRE it never refuses, and the record ends when it would have.
  redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1]))
  redis.call('HSET', KEYS[1], 'until', '0')
  if ARGV[2] then
    redis.call('HSET', KEYS[1], 'answer', ARGV[2])
  end
end
return 1
