-- queue.lua: put before the scripts of the retry queue. Defines functions, runs nothing.
--
-- A delivery's state in `deliveries`, packed: ek event_key, w webhook, t tenant, p position, n attempts, c chat (only where
-- order is kept), cl claim id (0: none), fp first parked ms, at when it may be claimed (again) ms, e last error.
-- `line` names a webhook's keys: due, chats, order.
-- In `order` a member is <chat>\0<position, 16 digits>\0<delivery id>; only a chat's head stands in `due`.

local function order_member(id, delivery)
  return delivery.c .. '\0' .. string.format('%016.0f', delivery.p) .. '\0' .. id
end

local function heads(order, chat, count)
  local ids = redis.call('ZRANGEBYLEX', order, '[' .. chat .. '\0', '(' .. chat .. '\1', 'LIMIT', 0, count)
  for i, member in ipairs(ids) do
    ids[i] = string.match(member, '[^%z]*$')
  end
  return ids
end

local function read_delivery(deliveries, id)
  local packed = redis.call('HGET', deliveries, id)
  return packed and cmsgpack.unpack(packed)
end

local function write_delivery(deliveries, id, delivery)
  redis.call('HSET', deliveries, id, cmsgpack.pack(delivery))
end

-- Due at its time, unless it waits behind another of its chat; whom it displaced as head is due no more.
local function schedule(line, id, delivery)
  if delivery.c then
    local first = heads(line.order, delivery.c, 2)
    if first[1] ~= id then
      redis.call('ZREM', line.due, id)
      return
    end
    if first[2] then
      redis.call('ZREM', line.due, first[2])
    end
  end
  redis.call('ZADD', line.due, number_text(delivery.at), id)
end

local function enqueue(deliveries, line, id, delivery)
  write_delivery(deliveries, id, delivery)
  if delivery.c and redis.call('ZADD', line.order, 0, order_member(id, delivery)) == 1 then
    redis.call('HINCRBY', line.chats, delivery.c, 1)
  end
  schedule(line, id, delivery)
end

-- Forgets its state; the next of its chat becomes the head.
local function dequeue(deliveries, line, id, delivery)
  redis.call('ZREM', line.due, id)
  if delivery.c and redis.call('ZREM', line.order, order_member(id, delivery)) == 1 then
    if redis.call('HINCRBY', line.chats, delivery.c, -1) <= 0 then
      redis.call('HDEL', line.chats, delivery.c)
    end
    local next_id = heads(line.order, delivery.c, 1)[1]
    local next_delivery = next_id and read_delivery(deliveries, next_id)
    if next_delivery then
      redis.call('ZADD', line.due, number_text(next_delivery.at), next_id)
    end
  end
  redis.call('HDEL', deliveries, id)
end

-- `due` of the shard holds each webhook at the time of its earliest delivery; one that is held back stands there at no time.
local function mirror(due, held, webhook, line)
  local earliest = redis.call('ZRANGE', line.due, 0, 0, 'WITHSCORES')
  if earliest[1] and redis.call('SISMEMBER', held, webhook) == 0 then
    redis.call('ZADD', due, earliest[2], webhook)
  else
    redis.call('ZREM', due, webhook)
  end
end

-- A record is kept once, for as long as a delivery uses it: a set of users, not a counter, so that any script may run twice.
local function keep_payload(payload, waiting, tenant, record, webhook)
  if redis.call('HSETNX', payload, 'r', record) == 1 then
    redis.call('HSET', payload, 't', tenant)
    redis.call('HINCRBY', waiting, tenant .. '|pn', 1)
    redis.call('HINCRBY', waiting, tenant .. '|pb', #record)
  end
  redis.call('HSET', payload, 'u:' .. webhook, 1)
end

local function release_payload(payload, waiting, webhook)
  redis.call('HDEL', payload, 'u:' .. webhook)
  if redis.call('HLEN', payload) ~= 2 then -- `r` and `t` are left when nobody uses it
    return
  end
  local tenant, size = redis.call('HGET', payload, 't'), redis.call('HSTRLEN', payload, 'r')
  redis.call('UNLINK', payload)
  for field, less in pairs({[tenant .. '|pn'] = -1, [tenant .. '|pb'] = 0 - size}) do
    if redis.call('HINCRBY', waiting, field, less) == 0 then
      redis.call('HDEL', waiting, field)
    end
  end
end

-- Among the dead letters before it leaves the queue: it is never in neither. It keeps its payload.
local function bury(keys, line, id, delivery, reason, error_text, now)
  redis.call('HSET', keys.dead, id, cmsgpack.pack({
    ek = delivery.ek, w = delivery.w, t = delivery.t, p = delivery.p, n = delivery.n, re = reason,
    e = error_text ~= '' and error_text or delivery.e,
  }))
  redis.call('ZADD', keys.dead_at, number_text(now), id)
  dequeue(keys.deliveries, line, id, delivery)
end
