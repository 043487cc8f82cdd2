-- Take the next steps out of waiting rooms: the most urgent priority first, then the API key whose turn it is.
-- KEYS[1] hash of waiters   KEYS[2] sorted set of the rooms: when (Unix ms) the clock calls somebody
-- KEYS[3] sorted set of the waiters whose time ends: when (Unix ms)
-- ARGV[1] prefix of a room's keys   ARGV[2] how many to take of a room   ARGV[3] ms after which the clock calls again
-- ARGV[4..] rooms, called by a release; none: those whose moment has come, and the steps whose time is over,
--   at most 50 of each, called by the clock
-- RETURNS their messages; they are out of every other room as well
local prefix = ARGV[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local messages = {}
local function next_key(base)
  local best, best_priority
  -- in order of virtual time, so the first key of the most urgent priority is the one whose turn it is
  for _, key in ipairs(redis.call("ZRANGE", base .. ":keys", 0, -1)) do
    local first = redis.call("ZRANGE", base .. ":key:" .. key, 0, 0)[1]
    if not first then
      redis.call("ZREM", base .. ":keys", key)
    else
      local priority = string.sub(first, 1, 3)
      if not best or priority < best_priority then best, best_priority = key, priority end
    end
  end
  return best
end
-- RETURNS the waiter, which has left all its rooms, or nothing when it had left before
local function leave(id)
  local text = redis.call("HGET", KEYS[1], id)
  redis.call("ZREM", KEYS[3], id)
  if not text then return nil end
  local waiter = cjson.decode(text)
  for _, room in ipairs(waiter.rooms) do
    redis.call("ZREM", prefix .. room .. ":key:" .. waiter.key, waiter.place)
  end
  redis.call("HDEL", KEYS[1], id)
  messages[#messages + 1] = waiter.message
  return waiter
end
local function take(room)
  local base = prefix .. room
  local key = next_key(base)
  if not key then
    redis.call("ZREM", KEYS[2], room)
    return false
  end
  local place = redis.call("ZPOPMIN", base .. ":key:" .. key)[1]
  local waiter = leave(string.match(place, "[^:]*$"))
  if waiter then
    local turn = redis.call("ZSCORE", base .. ":keys", key)
    local after = redis.call("ZINCRBY", base .. ":keys", 1 / waiter.weight, key)
    redis.call("HSET", base .. ":turns", "", turn, key, after)
    redis.call("EXPIRE", base .. ":turns", 3600)
  end
  return true
end
local rooms = { unpack(ARGV, 4) }
if #rooms == 0 then
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", now, "LIMIT", 0, 50)) do leave(id) end
  rooms = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", now, "LIMIT", 0, 50)
  for _, room in ipairs(rooms) do redis.call("ZADD", KEYS[2], now + tonumber(ARGV[3]), room) end
end
for _, room in ipairs(rooms) do
  for _ = 1, tonumber(ARGV[2]) do
    if not take(room) then break end
  end
end
return messages
