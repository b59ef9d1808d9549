-- prepared: the taker's sessions of these shards read.
-- KEYS  1 offers
-- ARGV  1 taker  2… shards
-- reply OK. What a newer release says behind the taker stays. What is not offered to it (any more) stays as it is.

local now = now_ms()
for i = 2, #ARGV do
  local ends_at, giver, taker, more = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d+) [01] (%S+) (%S+)(.*)$')
  if taker == ARGV[1] and tonumber(ends_at) > now then
    redis.call('HSET', KEYS[1], ARGV[i], ends_at .. ' 1 ' .. giver .. ' ' .. taker .. more)
  end
end
return redis.status_reply('OK')
