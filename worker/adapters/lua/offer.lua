-- offer: a giver would like a taker to have these shards. Advice, never permission.
-- KEYS  1 offers
-- ARGV  1 giver  2 taker  3 ttl_ms  4… shards
-- reply OK. Repeated, an offer lasts longer and stays prepared; one to somebody else gives way.
-- An error midway leaves offers that end by themselves.

local giver, taker, now = ARGV[1], ARGV[2], now_ms()
local ends_at = number_text(now + tonumber(ARGV[3]))
for i = 4, #ARGV do
  local ended_at, is_prepared, from, to = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d+) ([01]) (%S+) (%S+)')
  if from ~= giver or to ~= taker or tonumber(ended_at) <= now then
    is_prepared = '0'
  end
  redis.call('HSET', KEYS[1], ARGV[i], ends_at .. ' ' .. is_prepared .. ' ' .. giver .. ' ' .. taker)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.status_reply('OK')
