-- renew: hold the lease for ttl_ms from here. Never resurrects. Writes with PEXPIRE only, which maxmemory never refuses.
-- KEYS  1 lease
-- ARGV  1 owner  2 token  3 ttl_ms
-- reply 1 held, 0 expired or somebody else's

local lease = redis.call('HMGET', KEYS[1], 'owner', 'token')
if lease[1] ~= ARGV[1] or tonumber(lease[2]) ~= tonumber(ARGV[2]) then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
