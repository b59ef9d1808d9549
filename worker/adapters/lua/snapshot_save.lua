-- snapshot_save: what was seen of instances, stamped with the store's clock.
-- KEYS  1 snapshot
-- ARGV  1 '1': the snapshot is whole now  2 kept for so many ms  then pairs: instance, what was seen
-- reply OK. Repeatable; an error midway leaves the rest as it was seen before.

local now = number_text(now_ms())
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], 'i:' .. ARGV[i], now .. ' ' .. ARGV[i + 1])
end
if ARGV[1] == '1' then
  redis.call('HSET', KEYS[1], 'whole', now)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.status_reply('OK')
