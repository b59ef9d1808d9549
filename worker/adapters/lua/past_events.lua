-- past_events: what the journal keeps of a tenant around a time. Reads only; bounded by segments, events and bytes.
-- KEYS  1 journal  2 marks  3 tail
-- ARGV  1 tenant  2 from position ('': where the time range begins)  3 since ms  4 until ms  5 segments at most  6 events at most  7 bytes at most
-- reply {next position (0: nothing is left), position, record, …}
-- A mark says where the tail stood at an instant: all that was appended before it stands before it.

local FIRST_IN_SEGMENT = '-18446744073709551615'
local from = tonumber(ARGV[2])
if not from then
  local before = redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[3], '-inf', 'LIMIT', 0, 1)[1]
  from = before and tonumber(string.match(before, '^%d+')) or 1
end
local after = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[4], '+inf', 'LIMIT', 0, 1)[1]
local to = after and tonumber(string.match(after, '^%d+')) or tonumber(redis.call('HGET', KEYS[3], 'next') or '1')
if from >= to then
  return {0}
end

local CHUNK = 2
local segments_left, events_left, bytes_left = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local newest_before = redis.call('XREVRANGE', KEYS[1], number_text(from) .. FIRST_IN_SEGMENT, '-', 'COUNT', 1)[1]
local start = newest_before and newest_before[1] or number_text(from) .. '-0'
local reply, position = {0}, from
while true do
  local entries = redis.call('XRANGE', KEYS[1], start, '(' .. number_text(to) .. '-0', 'COUNT', CHUNK)
  for _, entry in ipairs(entries) do
    position, start = tonumber(string.match(entry[1], '^%d+')), '(' .. entry[1]
    for i = 1, #entry[2], 2 do
      if position >= from and position < to and entry[2][i] == ARGV[1] then
        if events_left == 0 or (bytes_left <= 0 and #reply > 1) then
          reply[1] = position
          return reply
        end
        events_left = events_left - 1
        reply[#reply + 1] = position
        reply[#reply + 1] = entry[2][i + 1]
      end
      bytes_left = bytes_left - #entry[2][i + 1] -- also a stranger's: reading them is the work
      position = position + 1
    end
  end
  segments_left = segments_left - CHUNK
  if #entries < CHUNK or position >= to then
    return reply
  elseif segments_left <= 0 or bytes_left <= 0 then
    reply[1] = math.max(position, from)
    return reply
  end
end
