-- once_begin: who runs the call of an Idempotency-Key.
-- KEYS  1 record
-- ARGV  1 body's hash  2 holder  3 lease ms  4 kept for so many ms  5 plan
-- reply {'mine', plan} | {'running', lease left ms} | {'finished', answer} | {'other'}

local found = redis.call('HMGET', KEYS[1], 'body', 'answer', 'holder', 'until', 'plan')
local body, answer, holder, plan = found[1], found[2], found[3], found[5]
local now, ends = now_ms(), tonumber(found[4] or '0')
if not body then
  redis.call('HSET', KEYS[1], 'body', ARGV[1], 'plan', ARGV[5], 'holder', ARGV[2], 'until', number_text(now + tonumber(ARGV[3])))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {'mine', ARGV[5]}
end
if body ~= ARGV[1] then
  return {'other'}
end
if answer then
  return {'finished', answer}
end
if holder ~= ARGV[2] and ends > now then
  return {'running', number_text(ends - now)}
end
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'until', number_text(now + tonumber(ARGV[3])))
return {'mine', plan}
