-- release: give the lease up, or reserve it for a successor.
-- KEYS  1 lease
-- ARGV  1 owner  2 token  3 successor ('': none)  4 ms of the reservation
-- reply 1 released, 0 was not ours any more
-- An error midway: the lease ends with the reservation's time.

local lease = redis.call('HMGET', KEYS[1], 'owner', 'token')
if lease[1] ~= ARGV[1] or tonumber(lease[2]) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] == '' then
  return redis.call('DEL', KEYS[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[1], 'next', ARGV[3])
redis.call('HDEL', KEYS[1], 'owner', 'token', 'previous')
return 1
