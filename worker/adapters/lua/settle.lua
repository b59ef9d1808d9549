-- settle: what became of claimed attempts. Guarded by the claim's id, not by a token: also after the lease has gone.
-- KEYS  1 deliveries  2 due  3 waiting  4 dead  5 dead:at  6 claims  7 held
--       then per settlement: payload:<event_key>, due:<webhook>, chats:<webhook>, order:<webhook>
-- ARGV  per settlement: claim, delivery id, webhook, outcome (ok, retry, dead), retry in ms, counted (1/0), dead reason, error
-- reply per settlement: 0 the claim is not the delivery's any more, else 1 + how many of its chat still wait (no chat: none)
-- An error midway: a delivery leaves the queue before its payload is released, so at worst a payload stays behind.

local FIRST_KEY, KEY_STRIDE, STRIDE = 8, 4, 8
local keys = {deliveries = KEYS[1], due = KEYS[2], waiting = KEYS[3], dead = KEYS[4], dead_at = KEYS[5]}
local now = now_ms()
run_even_when_full(KEYS[6])

local function retry(line, id, delivery, in_ms, error_text)
  delivery.cl = 0
  delivery.at = now + in_ms
  delivery.e = error_text ~= '' and error_text or delivery.e
  write_delivery(keys.deliveries, id, delivery)
  schedule(line, id, delivery)
end

local function settle(a, payload, line)
  local id, webhook, outcome = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local delivery = read_delivery(keys.deliveries, id)
  if not delivery or delivery.cl == 0 or delivery.cl ~= tonumber(ARGV[a]) then
    return 0
  end
  if outcome == 'ok' then
    dequeue(keys.deliveries, line, id, delivery)
    if redis.call('HDEL', keys.dead, id) == 1 then -- it died once, came again long after, and is delivered now
      redis.call('ZREM', keys.dead_at, id)
    end
    release_payload(payload, keys.waiting, webhook)
  else
    delivery.n = delivery.n + tonumber(ARGV[a + 5])
    if outcome == 'dead' then
      bury(keys, line, id, delivery, ARGV[a + 6], ARGV[a + 7], now)
    else
      retry(line, id, delivery, tonumber(ARGV[a + 4]), ARGV[a + 7])
    end
  end
  mirror(keys.due, KEYS[7], webhook, line)
  return 1 + (delivery.c and tonumber(redis.call('HGET', line.chats, delivery.c) or '0') or 0)
end

local reply = {}
for index = 0, #ARGV / STRIDE - 1 do
  local k = FIRST_KEY + index * KEY_STRIDE
  reply[index + 1] = settle(1 + index * STRIDE, KEYS[k], {due = KEYS[k + 1], chats = KEYS[k + 2], order = KEYS[k + 3]})
end
return reply
