-- remove_row: a row of the directory goes, with its claims.
-- KEYS  1 rows  2 claims  3 changes
-- ARGV  1 id  2 kind  3 only if it is this tenant's ('': whosever)  4 changes kept
-- reply the removal's revision; 0: there is no such row
-- An error midway leaves the row, or claims that no row makes; a repeat heals the first, the next claimant the second.

local id, row = ARGV[1], stored(ARGV[1])
if not row or (ARGV[3] ~= '' and (row.row or {}).tenant_id ~= ARGV[3]) then
  return 0
end
run_even_when_full(KEYS[1])
local revision = next_revision()
note_change(revision, ARGV[2], id, ARGV[4])
redis.call('HDEL', KEYS[1], id)
release(row.claims, id)
return tonumber(revision)
