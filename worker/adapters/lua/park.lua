-- park: put deliveries aside and relieve the journal of them. Fenced; may be repeated.
-- KEYS  1 fence  2 cursor  3 done  4 waiting  5 deliveries  6 claims  7 due  8 dead  9 dead:at  10 held
--       then per item: payload:<event_key>, due:<webhook>, chats:<webhook>, order:<webhook>
-- ARGV  1 token, then per item: delivery id, event_key, webhook, tenant, position, record, attempts, due in ms,
--       chat ('': none), error ('': none), claim for ms ('': none), dead reason ('': none)
-- reply per item: -1 known done, else its claim id or 0
-- An error midway: the journal is relieved of an item last, so what was not finished is served by the journal again.

local FIRST_KEY, KEY_STRIDE, STRIDE = 11, 4, 12

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
local keys = {
  waiting = KEYS[4], deliveries = KEYS[5], claims = KEYS[6], due = KEYS[7], dead = KEYS[8], dead_at = KEYS[9], held = KEYS[10],
}
local prefix = tonumber(redis.call('HGET', KEYS[2], 'prefix') or '1')
local now = now_ms()

local function item_at(index)
  local a = 1 + index * STRIDE
  return {
    id = ARGV[a + 1], event_key = ARGV[a + 2], webhook = ARGV[a + 3], tenant = ARGV[a + 4], position = tonumber(ARGV[a + 5]),
    record = ARGV[a + 6], attempts = tonumber(ARGV[a + 7]), due_in_ms = tonumber(ARGV[a + 8]), chat = ARGV[a + 9],
    error = ARGV[a + 10], claim_for_ms = tonumber(ARGV[a + 11]), dead = ARGV[a + 12],
  }
end

local function is_done(item)
  if item.position < prefix then
    return true
  end
  local facts = redis.call('HMGET', KEYS[3], number_text(item.position), number_text(item.position) .. '|' .. item.webhook)
  return facts[1] or facts[2]
end

local function new_delivery(item)
  return {
    ek = item.event_key, w = item.webhook, t = item.tenant, p = item.position, n = item.attempts, c = item.chat ~= '' and item.chat or nil,
    cl = 0, fp = now, at = now + item.due_in_ms, e = item.error ~= '' and item.error or nil,
  }
end

local function give_claim(line, item, delivery)
  delivery.cl = redis.call('INCR', keys.claims)
  delivery.at = now + item.claim_for_ms
  write_delivery(keys.deliveries, item.id, delivery)
  schedule(line, item.id, delivery)
  return delivery.cl
end

local function park(item, payload, line)
  local delivery = read_delivery(keys.deliveries, item.id)
  if not delivery and is_done(item) then
    return -1
  end
  keep_payload(payload, keys.waiting, item.tenant, item.record, item.webhook)
  if delivery then
    delivery.n = math.max(delivery.n, item.attempts)
  else
    delivery = new_delivery(item)
  end
  enqueue(keys.deliveries, line, item.id, delivery)
  local claim = 0
  if item.dead ~= '' then
    bury(keys, line, item.id, delivery, item.dead, item.error, now)
  elseif item.claim_for_ms then
    claim = give_claim(line, item, delivery)
  end
  mirror(keys.due, keys.held, item.webhook, line)
  if item.position >= prefix then
    redis.call('HSET', KEYS[3], number_text(item.position) .. '|' .. item.webhook, 1)
  end
  return claim
end

local reply = {}
for index = 0, (#ARGV - 1) / STRIDE - 1 do
  local k = FIRST_KEY + index * KEY_STRIDE
  reply[index + 1] = park(item_at(index), KEYS[k], {due = KEYS[k + 1], chats = KEYS[k + 2], order = KEYS[k + 3]})
end
return reply
