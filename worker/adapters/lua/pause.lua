-- pause: begin or end a webhook's pause.
-- KEYS  1 webhooks  2 pauses
-- ARGV  1 webhook  2 paused from now on (1) or no longer (0)  3 pauses kept at most
-- reply 1 it was otherwise before, 0 nothing changed
-- The value is its pauses, the oldest first: `<from ms>-<to ms> … <from ms>-`; one without an end lasts.

run_even_when_full(KEYS[2])
local pauses, now = {}, number_text(now_ms())
for from, to in string.gmatch(redis.call('HGET', KEYS[2], ARGV[1]) or '', '(%d+)%-(%d*)') do
  pauses[#pauses + 1] = {from = from, to = to}
end
local last = pauses[#pauses]
local is_paused = last ~= nil and last.to == ''
if is_paused == (ARGV[2] == '1') then
  return 0
end

if is_paused then
  last.to = now
  if string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^failing ') then
    redis.call('HDEL', KEYS[1], ARGV[1])
  end
else
  pauses[#pauses + 1] = {from = now, to = ''}
end
while #pauses > tonumber(ARGV[3]) do
  pauses[2].from = pauses[1].from
  table.remove(pauses, 1)
end
for i, pause in ipairs(pauses) do
  pauses[i] = pause.from .. '-' .. pause.to
end
redis.call('HSET', KEYS[2], ARGV[1], table.concat(pauses, ' '))
return 1
