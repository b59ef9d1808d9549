-- replay: dead letters back into the queue. Not fenced: it adds deliveries, whose ids are computed, to whoever owns the shard. May be repeated.
-- KEYS  1 deliveries  2 due  3 waiting  4 dead  5 dead:at  6 held  then per letter: payload:<event_key>, due:<webhook it is for>
-- ARGV  per letter: its id, id of the delivery it becomes, webhook it is for, due in ms
-- reply per letter: 1 its delivery waits in the queue, 0 there is no such letter, -1 it has no record
-- An error midway: the delivery is in the queue before the letter leaves the dead, so at worst it is in both; a repeat finishes that.

local FIRST_KEY, KEY_STRIDE, STRIDE = 7, 2, 4
local deliveries, waiting, dead, dead_at = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local now = now_ms()
run_even_when_full(deliveries) -- what is delivered frees memory; a dead letter frees it in two weeks

-- Due before its state: whoever claims it in between drops a due time without state, and a repeat of this script adds both again.
local function queue(line, id, webhook, letter, in_ms)
  if redis.call('HEXISTS', deliveries, id) == 1 then
    return
  end
  local delivery = {ek = letter.ek, w = webhook, t = letter.t, p = letter.p, n = 0, cl = 0, fp = now, at = now + in_ms, e = letter.e}
  redis.call('ZADD', line.due, number_text(delivery.at), id)
  mirror(KEYS[2], KEYS[6], webhook, line)
  write_delivery(deliveries, id, delivery)
end

local function replay(a, payload, line)
  local letter_id, id, webhook = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local packed = redis.call('HGET', dead, letter_id)
  if not packed then
    return redis.call('HEXISTS', deliveries, id)
  elseif redis.call('HEXISTS', payload, 'r') == 0 then
    return -1
  end
  local letter = cmsgpack.unpack(packed)
  redis.call('HSET', payload, 'u:' .. webhook, 1)
  queue(line, id, webhook, letter, tonumber(ARGV[a + 3]))
  if id ~= letter_id and redis.call('HEXISTS', deliveries, letter_id) == 0 then
    release_payload(payload, waiting, letter.w)
  end
  redis.call('ZREM', dead_at, letter_id)
  redis.call('HDEL', dead, letter_id)
  return 1
end

local reply = {}
for index = 0, #ARGV / STRIDE - 1 do
  local k = FIRST_KEY + index * KEY_STRIDE
  reply[index + 1] = replay(1 + index * STRIDE, KEYS[k], {due = KEYS[k + 1]})
end
return reply
