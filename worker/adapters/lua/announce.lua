-- announce: a heartbeat of a live worker.
-- KEYS  1 members  2 member:<owner>
-- ARGV  1 owner  2 what it announces (JSON)  3 ttl_ms
-- reply OK. An error midway leaves an entry that ends by itself.

local now = now_ms()
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], number_text(now + tonumber(ARGV[3])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', number_text(now))
return redis.status_reply('OK')
