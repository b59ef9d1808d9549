-- fence.lua: put before guarded scripts. A write with a token older than the newest granted one is refused.

local function is_stale(fence, token)
  local newest = redis.call('GET', fence)
  return newest and tonumber(newest) > tonumber(token)
end

local STALE = redis.error_reply('STALE a newer token has been granted')
