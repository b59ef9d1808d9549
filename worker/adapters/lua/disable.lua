-- disable: a webhook gets nothing more until somebody removes its state.
-- KEYS  1 webhooks
-- ARGV  1 webhook  2 reason  3 only if failing for so many ms (0: whatever it does)
-- reply 1 it is disabled, 0 it has not been failing for so long

run_even_when_full(KEYS[1])
local state = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.match(state, '^disabled ') then
  return 1
end
local now, asked_ms = now_ms(), tonumber(ARGV[3])
local since_ms = tonumber(string.match(state, '^failing (%d+)$'))
if asked_ms > 0 and (not since_ms or now - since_ms < asked_ms) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], 'disabled ' .. number_text(now) .. ' ' .. ARGV[2])
return 1
