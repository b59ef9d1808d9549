-- letter_page: dead letters that match, in the order of their death. Reads only; bounded by letters looked at.
-- KEYS  1 dead  2 dead:at
-- ARGV  1 tenant  2 webhook ('': any)  3 reason ('': any)  4 from ms  5 to ms (both as for ZRANGEBYSCORE)  6 newest first (1/0)
--       7 behind: ms ('': from the beginning)  8 behind: delivery id  9 matches at most  10 looked at at most
-- reply {now ms, ended (1/0), ms and delivery id of the last one looked at, letter, …}: a letter as
--       {delivery id, event_key, webhook, tenant, position, reason, attempts, error ('': none), died at ms}

local CHUNK = 100
local newest_first, behind_ms, behind_id = ARGV[6] == '1', tonumber(ARGV[7]), ARGV[8]
local matches_left, looks_left = tonumber(ARGV[9]), tonumber(ARGV[10])
local last_ms, last_id = '', ''
local reply = {now_ms(), 0, '', ''}

local function chunk_at(offset)
  if newest_first then
    return redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[5], ARGV[4], 'WITHSCORES', 'LIMIT', offset, CHUNK)
  end
  return redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[4], ARGV[5], 'WITHSCORES', 'LIMIT', offset, CHUNK)
end

-- What died in the same millisecond as the last one shown, and was shown before it.
local function is_behind(id, ms)
  if ms ~= behind_ms then
    return true
  elseif newest_first then
    return id < behind_id
  end
  return id > behind_id
end

local function matches(letter)
  return letter.t == ARGV[1] and (ARGV[2] == '' or letter.w == ARGV[2]) and (ARGV[3] == '' or letter.re == ARGV[3])
end

local function look(id, ms, packed)
  looks_left = looks_left - 1
  last_ms, last_id = ms, id
  local letter = packed and cmsgpack.unpack(packed)
  if letter and matches(letter) then
    matches_left = matches_left - 1
    reply[#reply + 1] = {id, letter.ek, letter.w, letter.t, letter.p, letter.re, letter.n, letter.e or '', tonumber(ms)}
  end
end

local offset, is_over = 0, false
while not is_over do
  local scored, ids = chunk_at(offset), {}
  for i = 1, #scored, 2 do
    ids[#ids + 1] = scored[i]
  end
  local packed = #ids > 0 and redis.call('HMGET', KEYS[1], unpack(ids)) or {}
  for i, id in ipairs(ids) do
    if matches_left == 0 or looks_left == 0 then
      is_over = true
      break
    end
    if is_behind(id, tonumber(scored[2 * i])) then
      look(id, scored[2 * i], packed[i])
    end
  end
  offset = offset + CHUNK
  if not is_over and #ids < CHUNK then
    is_over = true
    reply[2] = 1
  end
end
reply[3], reply[4] = last_ms, last_id
return reply
