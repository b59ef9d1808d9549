-- dead_letters: the oldest first. Reads only.
-- KEYS  1 dead  2 dead:at
-- ARGV  1 at least this old in ms  2 at most so many
-- reply per letter: {delivery id, event_key, webhook, tenant, reason, attempts, error ('': none), dead for ms}

local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', number_text(now - tonumber(ARGV[1])), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local reply = {}
for i = 1, #ids, 2 do
  local packed = redis.call('HGET', KEYS[1], ids[i])
  if packed then
    local letter = cmsgpack.unpack(packed)
    reply[#reply + 1] = {
      ids[i], letter.ek, letter.w, letter.t, letter.re, letter.n, letter.e or '', now - tonumber(ids[i + 1]),
    }
  end
end
return reply
