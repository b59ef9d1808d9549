-- discard: forget dead letters, and the payloads nobody else uses.
-- KEYS  1 dead  2 dead:at  3 waiting  4 deliveries  then per letter: payload:<event_key>
-- ARGV  1 at least this old in ms (one that was replayed and died again meanwhile stays)  then per letter: delivery id, webhook
-- reply how many were there
-- A delivery that waits in the queue again (the event came once more, long after) goes on using the payload that its letter kept.
-- An error midway leaves a payload behind whose letter has gone; nothing that still waits is touched.

local youngest = now_ms() - tonumber(ARGV[1])
local discarded = 0
for index = 0, (#ARGV - 1) / 2 - 1 do
  local id, webhook = ARGV[2 + index * 2], ARGV[3 + index * 2]
  local died_at = redis.call('ZSCORE', KEYS[2], id)
  if died_at and tonumber(died_at) <= youngest then
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
    if redis.call('HEXISTS', KEYS[4], id) == 0 then
      release_payload(KEYS[5 + index], KEYS[3], webhook)
    end
    discarded = discarded + 1
  end
end
return discarded
