-- withdraw_offers: the giver's own offers of these shards end.
-- KEYS  1 offers
-- ARGV  1 giver  2… shards
-- reply OK. Others' offers stay.

for i = 2, #ARGV do
  local giver = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+ [01] (%S+) %S+')
  if giver == ARGV[1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return redis.status_reply('OK')
