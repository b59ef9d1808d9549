-- note_answers: which webhooks answer again, and which have begun to fail.
-- KEYS  1 webhooks
-- ARGV  1 how many answered  then these, then those that failed
-- reply OK. An error midway leaves the rest to be noted by the next failure or answer.

run_even_when_full(KEYS[1])
local answered = tonumber(ARGV[1])
for i = 2, answered + 1 do
  local state = redis.call('HGET', KEYS[1], ARGV[i])
  if state and string.match(state, '^failing ') then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
local failing = 'failing ' .. number_text(now_ms())
for i = answered + 2, #ARGV do
  redis.call('HSETNX', KEYS[1], ARGV[i], failing)
end
return redis.status_reply('OK')
