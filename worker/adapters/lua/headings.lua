-- headings: the beginnings of records, up to the gateway's bytes (domain/record.py draws the layout). Reads only.
-- KEYS  payload:<event_key> …
-- reply one string per key; empty where there is no record, or none that has a header

local FIXED_BYTES = 8
local reply = {}
for i, key in ipairs(KEYS) do
  local record = redis.call('HGET', key, 'r')
  reply[i] = ''
  if record and #record >= FIXED_BYTES then
    local a, b, c, d = string.byte(record, 2, 5)
    reply[i] = string.sub(record, 1, FIXED_BYTES + ((a * 256 + b) * 256 + c) * 256 + d)
  end
end
return reply
