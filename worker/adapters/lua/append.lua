-- append: look, append, then remember. Never refuses an event.
-- KEYS  1 tail  2 journal  3 seen  4-7 seen:0 … seen:3  8 waiting
-- ARGV  1 span of a slot in ms  2 keys per slot  3 touch (1: write even when all are duplicates, so that WAIT has an offset
--       to wait for)  then per event: event_key, tenant, record, remembered (1/0)
-- reply one integer per event: its position, negative where it is a duplicate of that position
-- An error midway: positions may be lost (gaps are legal), or events stand in the journal that are not remembered: a
-- repeat can only duplicate. The figures in `waiting` are healed by the recount of the next tenure.

local SLOTS = 4
local FIRST_EVENT = 4
local STRIDE = 4

local function slot_key(slot)
  return KEYS[4 + slot]
end

local function turns_due(elapsed_ms, slot)
  if elapsed_ms >= tonumber(ARGV[1]) then
    return math.min(SLOTS, math.floor(elapsed_ms / tonumber(ARGV[1])))
  end
  return redis.call('HLEN', slot_key(slot)) >= tonumber(ARGV[2]) and 1 or 0
end

-- Answers the slot in use after turning the ring if due, and the slots that the turn empties.
local function turned_ring(now)
  local ring = redis.call('HMGET', KEYS[3], 'slot', 'since_ms')
  if not ring[1] then
    return 0, {}, true
  end
  local slot, emptied = tonumber(ring[1]), {}
  for _ = 1, turns_due(now - tonumber(ring[2]), slot) do
    slot = (slot + 1) % SLOTS
    emptied[#emptied + 1] = slot
  end
  return slot, emptied, #emptied > 0
end

local function remembered_positions()
  local keys, at = {}, {}
  for i = FIRST_EVENT, #ARGV, STRIDE do
    if ARGV[i + 3] == '1' and not at[ARGV[i]] then
      keys[#keys + 1] = ARGV[i]
      at[ARGV[i]] = true
    end
  end
  local known = {}
  if #keys == 0 then
    return known
  end
  for slot = 0, SLOTS - 1 do
    local found = redis.call('HMGET', slot_key(slot), unpack(keys))
    for i = 1, #keys do
      if found[i] then
        known[keys[i]] = tonumber(found[i])
      end
    end
  end
  return known
end

local slot, emptied, is_new_slot = turned_ring(now_ms())
if is_new_slot then
  redis.call('HSET', KEYS[3], 'slot', slot, 'since_ms', number_text(now_ms()))
  for _, old in ipairs(emptied) do
    redis.call('UNLINK', slot_key(old))
  end
end

local known = remembered_positions()
local tail = redis.call('HMGET', KEYS[1], 'next', 'bytes')
local first, bytes = tonumber(tail[1] or '1'), tonumber(tail[2] or '0')
local reply, fields, to_remember, counts, sizes = {}, {}, {}, {}, {}
local position = first

for i = FIRST_EVENT, #ARGV, STRIDE do
  local key, tenant, record, is_remembered = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1'
  if is_remembered and known[key] then
    reply[#reply + 1] = -known[key]
  else
    reply[#reply + 1] = position
    fields[#fields + 1] = tenant
    fields[#fields + 1] = record
    counts[tenant] = (counts[tenant] or 0) + 1
    sizes[tenant] = (sizes[tenant] or 0) + #record
    bytes = bytes + #record
    if is_remembered then
      known[key] = position
      to_remember[#to_remember + 1] = key
      to_remember[#to_remember + 1] = number_text(position)
    end
    position = position + 1
  end
end

if #fields > 0 then
  -- The tail moves first: an id that was used up by an error leaves a gap, an id used twice would stop the shard.
  redis.call('HSET', KEYS[1], 'next', number_text(position), 'bytes', number_text(bytes))
  redis.call('XADD', KEYS[2], number_text(first) .. '-' .. number_text(position - first), unpack(fields))
  if #to_remember > 0 then
    redis.call('HSET', slot_key(slot), unpack(to_remember))
  end
  for tenant, count in pairs(counts) do
    redis.call('HINCRBY', KEYS[8], tenant .. '|n', count)
    redis.call('HINCRBY', KEYS[8], tenant .. '|b', number_text(sizes[tenant]))
  end
elseif ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], 'next', number_text(first))
end
return reply
