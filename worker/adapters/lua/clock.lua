-- clock.lua: put before scripts that need the store's time or print numbers. Defines functions, runs nothing.

local function number_text(n)
  return string.format('%.0f', n) -- tostring() would round a token or a position to 14 digits; negate by `0 - n`, for -0 is no integer
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Redis asks about maxmemory until a script has written once. PERSIST is a write that it never refuses, on a key
-- that has no TTL: with it in front, a script that frees memory (or moves a delivery on) also runs when there is none left.
local function run_even_when_full(key)
  redis.call('PERSIST', key)
end
