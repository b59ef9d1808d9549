-- recount_walk: what waits in one stretch of the journal. Reads only; bounded by segments.
-- KEYS  1 journal
-- ARGV  1 from  2 to (exclusive)  3 segments at most  then positions in between that are done as a whole
-- reply {next position to walk from, tenant, events, bytes, …}; next = to when the stretch is finished

local from, to = tonumber(ARGV[1]), tonumber(ARGV[2])
local done = {}
for i = 4, #ARGV do
  done[tonumber(ARGV[i])] = true
end

local newest_before = redis.call('XREVRANGE', KEYS[1], ARGV[1] .. '-18446744073709551615', '-', 'COUNT', 1)[1]
local start = newest_before and newest_before[1] or ARGV[1] .. '-0'
local entries = redis.call('XRANGE', KEYS[1], start, '(' .. ARGV[2] .. '-0', 'COUNT', ARGV[3])
local counts, sizes, next_position = {}, {}, to

for index, entry in ipairs(entries) do
  local position = tonumber(string.match(entry[1], '^%d+'))
  for i = 1, #entry[2], 2 do
    local tenant = entry[2][i]
    if position >= from and position < to and not done[position] then
      counts[tenant] = (counts[tenant] or 0) + 1
      sizes[tenant] = (sizes[tenant] or 0) + #entry[2][i + 1]
    end
    position = position + 1
  end
  if index == tonumber(ARGV[3]) then
    next_position = math.max(position, from)
  end
end

local reply = {math.min(next_position, to)}
for tenant, count in pairs(counts) do
  reply[#reply + 1] = tenant
  reply[#reply + 1] = count
  reply[#reply + 1] = sizes[tenant]
end
return reply
