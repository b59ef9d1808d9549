-- acquire: grant the shard to one owner under a larger token than ever before.
-- KEYS  1 lease  2 fence  3 epoch
-- ARGV  1 owner  2 ttl_ms  3 sole (1: a former owner is provably gone)
-- reply {GRANTED, token, previous, replicas} | {BUSY, remaining ms, owner or ''} | {QUARANTINED, remaining ms}
-- Idempotent for the holder: its token again, nothing extended.
-- An error midway: the fence may have risen without a grant, or a lease without an end exists: the next caller gives it one.

local owner, ttl_ms, is_sole = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local now = now_ms()

-- INFO is asked in here, so that the answer is this server's and not that of the one before a failover. Where it is
-- hidden there is no guard.
local function info(section, pattern)
  local text = redis.pcall('INFO', section)
  return type(text) == 'string' and string.match(text, pattern) or nil
end

local run_id = info('server', 'run_id:(%x+)')
local replicas = tonumber(info('replication', 'connected_slaves:(%d+)') or '0')

-- A failed-over store may not have seen the last grants: it grants nothing for one TTL, so that those have ended.
local function quarantine_ends_at()
  local epoch = redis.call('HMGET', KEYS[3], 'run_id', 'until', 'replicated')
  local ends_at, is_replicated = tonumber(epoch[2] or '0'), epoch[3] or replicas > 0
  if run_id and epoch[1] ~= run_id then
    if epoch[1] and epoch[3] then
      ends_at = now + ttl_ms
    end
    redis.call('HSET', KEYS[3], 'run_id', run_id, 'until', number_text(ends_at))
  end
  if is_replicated and not epoch[3] then
    redis.call('HSET', KEYS[3], 'replicated', 1)
  end
  return ends_at
end

local lease = redis.call('HMGET', KEYS[1], 'owner', 'token', 'previous', 'next')
local left = redis.call('PTTL', KEYS[1])
run_even_when_full(KEYS[2])
if left == -1 then
  redis.call('PEXPIRE', KEYS[1], ttl_ms)
  left = ttl_ms
end
if lease[1] == owner then
  return {'GRANTED', tonumber(lease[2]), tonumber(lease[3]), replicas}
end
local ends_at = quarantine_ends_at()
if ends_at > now then
  return {'QUARANTINED', ends_at - now}
end
if left > 0 and lease[4] ~= owner and not is_sole then
  return {'BUSY', left, lease[1] or ''}
end

local time = redis.call('TIME')
local previous = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = math.max(previous + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
redis.call('SET', KEYS[2], number_text(token))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'owner', owner, 'token', number_text(token), 'previous', number_text(previous))
redis.call('PEXPIRE', KEYS[1], ttl_ms)
return {'GRANTED', token, previous, replicas}
