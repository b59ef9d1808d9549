-- put_row: a row of the directory, with its claims and the note of its change. Looks at everything first.
-- KEYS  1 rows  2 claims  3 changes
-- ARGV  1 id  2 kind  3 expected revision (0: there is none)  4 row (JSON)  5 its claims (JSON)  6 rows at most  7 changes kept
-- reply the revision; or what is in the way: id, revision, claim, room
-- An error midway leaves claims that no row makes, or the note of a change that did not happen; a repeat heals both.

local id, expected, row = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local before, text = stored(id)
if before and before.from == expected and string.sub(text, -#row - 1) == row .. '}' then
  return before.revision -- a repeat
end
if expected == 0 and before then
  return 'id'
end
if expected > 0 and (not before or before.revision ~= expected) then
  return 'revision'
end
if not before and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  return 'room'
end
local claims, is_claimed = cjson.decode(ARGV[5]), {}
for _, claim in ipairs(claims) do
  local other = holder(claim)
  if other and other ~= id then
    return 'claim'
  end
  is_claimed[claim] = true
end
local revision = next_revision()
for _, claim in ipairs(claims) do
  redis.call('HSET', KEYS[2], claim, id)
end
note_change(revision, ARGV[2], id, ARGV[7])
redis.call('HSET', KEYS[1], id, '{"revision":' .. revision .. ',"from":' .. ARGV[3] .. ',"claims":' .. ARGV[5] .. ',"row":' .. row .. '}')
local given_up = {}
for _, claim in ipairs(before and before.claims or {}) do
  given_up[#given_up + 1] = not is_claimed[claim] and claim or nil
end
release(given_up, id)
return tonumber(revision)
