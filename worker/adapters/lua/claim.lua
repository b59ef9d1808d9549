-- claim: take out what is due, as many per webhook as can start now; nothing of one that is held back. Fenced.
-- KEYS  1 fence  2 deliveries  3 claims  4 due  5 held  then per webhook: due:<webhook>, order:<webhook>
-- ARGV  1 token  then per webhook: webhook, count, visible after ms, also what is not due yet (1/0)
-- reply per claimed delivery: {claim, delivery id, event_key, webhook, tenant, position, attempts, parked for ms, chat ('': none)}
--       The records are read by the caller: their keys are not known before.
-- An error midway leaves claims that nobody heard of; they end at their visibility time.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
run_even_when_full(KEYS[1])
local STRIDE, LOOKED_AT = 4, 200
local now = now_ms()
local reply = {}

local function claim(line, id, visible_after_ms)
  local delivery = read_delivery(KEYS[2], id)
  if not delivery then
    redis.call('ZREM', line.due, id)
    return
  end
  delivery.cl = redis.call('INCR', KEYS[3])
  delivery.at = now + visible_after_ms
  write_delivery(KEYS[2], id, delivery)
  schedule(line, id, delivery)
  reply[#reply + 1] = {delivery.cl, id, delivery.ek, delivery.w, delivery.t, delivery.p, delivery.n, now - delivery.fp, delivery.c or ''}
end

-- The time of a claimed one is the end of its claim: before that it is nobody else's.
local function ready(line, count, whenever)
  if not whenever then
    return redis.call('ZRANGEBYSCORE', line.due, '-inf', number_text(now), 'LIMIT', 0, count)
  end
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', line.due, 0, LOOKED_AT - 1)) do
    local delivery = read_delivery(KEYS[2], id)
    if #found < count and not (delivery and delivery.cl ~= 0 and delivery.at > now) then
      found[#found + 1] = id
    end
  end
  return found
end

for index = 0, (#ARGV - 1) / STRIDE - 1 do
  local a, k = 2 + index * STRIDE, 6 + index * 2
  local line = {due = KEYS[k], order = KEYS[k + 1]}
  local at_most = redis.call('SISMEMBER', KEYS[5], ARGV[a]) == 1 and 0 or tonumber(ARGV[a + 1])
  for _, id in ipairs(ready(line, at_most, ARGV[a + 3] == '1')) do
    claim(line, id, tonumber(ARGV[a + 2]))
  end
  mirror(KEYS[4], KEYS[5], ARGV[a], line)
end
return reply
