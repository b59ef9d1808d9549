-- directory.lua: put before the scripts of the directory. Defines functions, runs nothing.
--
-- A stored row is JSON: revision, from (the revision that its writer expected), claims, row.
-- KEYS of each script  1 rows of one kind  2 claims of that kind  3 changes, a stream whose ids are the revisions

-- The row and its text; nil where there is none. One that cannot be read is there, with nothing in it.
local function stored(id)
  local text = redis.call('HGET', KEYS[1], id)
  if not text then
    return nil
  end
  local is_read, found = pcall(cjson.decode, text)
  if is_read and type(found) == 'table' and type(found.claims) == 'table' and type(found.row) == 'table' then
    return found, text
  end
  return {}, text
end

-- Larger than all before it, also than those which a store that went back has forgotten.
local function next_revision()
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  local after_last = last and tonumber(string.match(last[1], '^%d+')) + 1 or 1
  local time = redis.call('TIME')
  return number_text(math.max(after_last, tonumber(time[1]) * 1000000 + tonumber(time[2])))
end

local function note_change(revision, kind, id, kept)
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', kept, revision .. '-0', 'kind', kind, 'id', id)
end

-- Whose a claim is while that row makes it; a claim that its row does not make (any more) is nobody's.
local function holder(claim)
  local id = redis.call('HGET', KEYS[2], claim)
  local row = id and stored(id)
  if not row then
    return nil
  end
  for _, made in ipairs(row.claims or { claim }) do
    if made == claim then
      return id
    end
  end
  return nil
end

local function release(claims, id)
  for _, claim in ipairs(claims or {}) do
    if redis.call('HGET', KEYS[2], claim) == id then
      redis.call('HDEL', KEYS[2], claim)
    end
  end
end
