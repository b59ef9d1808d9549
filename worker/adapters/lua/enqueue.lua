-- enqueue: past events into the queue. Not fenced: it adds deliveries, whose ids are computed, to whoever owns the shard. May be repeated.
-- KEYS  1 cursor  2 done  3 waiting  4 deliveries  5 due  6 dead  7 held  then per item: payload:<event_key>, due:<webhook>
-- ARGV  per item: delivery id, event_key, webhook, tenant, position, record, due in ms, new to the webhook (1/0)
-- reply per item: 1 queued, 0 it waits already (in the queue, or the journal serves it), -1 it is a dead letter
-- An error midway leaves a payload whose delivery is missing; the repeat adds it.

local FIRST_KEY, KEY_STRIDE, STRIDE = 8, 2, 8
local keys = {waiting = KEYS[3], deliveries = KEYS[4], due = KEYS[5], held = KEYS[7]}
local prefix = tonumber(redis.call('HGET', KEYS[1], 'prefix') or '1')
local now = now_ms()

local function is_served_by_the_journal(position, webhook)
  if tonumber(position) < prefix then
    return false
  end
  local facts = redis.call('HMGET', KEYS[2], position, position .. '|' .. webhook)
  return not (facts[1] or facts[2])
end

local function add(a, payload, line)
  local id, event_key, webhook, tenant, position, record = unpack(ARGV, a, a + 5)
  if redis.call('HEXISTS', KEYS[6], id) == 1 then
    return -1
  elseif redis.call('HEXISTS', keys.deliveries, id) == 1 then
    return 0
  elseif ARGV[a + 7] == '0' and is_served_by_the_journal(position, webhook) then
    return 0
  end
  local delivery = {
    ek = event_key, w = webhook, t = tenant, p = tonumber(position), n = 0, cl = 0, fp = now, at = now + tonumber(ARGV[a + 6]),
  }
  keep_payload(payload, keys.waiting, tenant, record, webhook)
  redis.call('ZADD', line.due, number_text(delivery.at), id)
  mirror(keys.due, keys.held, webhook, line)
  write_delivery(keys.deliveries, id, delivery)
  return 1
end

local reply = {}
for index = 0, #ARGV / STRIDE - 1 do
  local k = FIRST_KEY + index * KEY_STRIDE
  reply[index + 1] = add(1 + index * STRIDE, KEYS[k], {due = KEYS[k + 1]})
end
return reply
