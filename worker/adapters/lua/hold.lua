-- hold: which webhooks are held back: nothing of theirs is due, whatever their deliveries' times. Fenced; may be repeated.
-- KEYS  1 fence  2 held  3 due  then per webhook: due:<webhook>
-- ARGV  1 token  then per webhook: webhook, held (1) or not (0)
-- reply OK
-- An error midway leaves webhooks as they were; each that was changed is right by itself.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
run_even_when_full(KEYS[1])
for index = 0, (#ARGV - 1) / 2 - 1 do
  local webhook, line = ARGV[2 + index * 2], {due = KEYS[4 + index]}
  redis.call(ARGV[3 + index * 2] == '1' and 'SADD' or 'SREM', KEYS[2], webhook)
  mirror(KEYS[3], KEYS[2], webhook, line)
end
return redis.status_reply('OK')
