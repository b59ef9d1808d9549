-- recount_apply: add the corrections that a recount found. Fenced. Not to be repeated after an unknown outcome: the next
-- recount measures anew.
-- KEYS  1 fence  2 waiting
-- ARGV  1 token  then per field: field, correction (may be negative)
-- reply OK. An error midway leaves some fields uncorrected until the next tenure.

if is_stale(KEYS[1], ARGV[1]) then
  return STALE
end
run_even_when_full(KEYS[1])
for i = 2, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) == 0 then
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
return redis.status_reply('OK')
