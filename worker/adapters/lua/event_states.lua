-- event_states: how the deliveries of one event fare. Reads only.
-- KEYS  1 deliveries  2 dead  3 cursor  4 done
-- ARGV  1 position ('': not known)  then per webhook: delivery id, webhook
-- reply per webhook: {queued | claimed | dead | done | journaled | unknown, attempts, next in ms, error ('': none), reason ('': none)}

local now = now_ms()

local function of_the_journal(webhook)
  local position = tonumber(ARGV[1])
  if not position then
    return 'unknown'
  end
  local facts = redis.call('HMGET', KEYS[4], number_text(position), number_text(position) .. '|' .. webhook)
  local is_done = position < tonumber(redis.call('HGET', KEYS[3], 'prefix') or '1') or facts[1] or facts[2]
  return is_done and 'done' or 'journaled'
end

local reply = {}
for i = 2, #ARGV, 2 do
  local delivery, packed = read_delivery(KEYS[1], ARGV[i]), redis.call('HGET', KEYS[2], ARGV[i])
  local row
  if delivery then
    local stage = delivery.cl ~= 0 and delivery.at > now and 'claimed' or 'queued'
    row = {stage, delivery.n, math.max(0, delivery.at - now), delivery.e or '', ''}
  elseif packed then
    local letter = cmsgpack.unpack(packed)
    row = {'dead', letter.n, 0, letter.e or '', letter.re}
  else
    row = {of_the_journal(ARGV[i + 1]), 0, 0, '', ''}
  end
  reply[#reply + 1] = row
end
return reply
