-- Take the next steps out of a waiting room: the most urgent priority first, then the API key whose turn it is.
-- KEYS[1] hash of waiters   KEYS[2] set of the rooms that are not empty
-- ARGV[1] prefix of a room's keys   ARGV[2] room   ARGV[3] how many to take
-- RETURNS their messages; they are out of every other room as well
local prefix, room = ARGV[1], ARGV[2]
local base = prefix .. room
local messages = {}
local function next_key()
  local best, best_priority
  -- in order of virtual time, so the first key of the most urgent priority is the one whose turn it is
  for _, key in ipairs(redis.call("ZRANGE", base .. ":keys", 0, -1)) do
    local first = redis.call("ZRANGE", base .. ":key:" .. key, 0, 0)[1]
    if not first then
      redis.call("ZREM", base .. ":keys", key)
    else
      local priority = string.sub(first, 1, 1)
      if not best or priority < best_priority then best, best_priority = key, priority end
    end
  end
  return best
end
while #messages < tonumber(ARGV[3]) do
  local key = next_key()
  if not key then
    redis.call("SREM", KEYS[2], room)
    break
  end
  local place = redis.call("ZPOPMIN", base .. ":key:" .. key)[1]
  local id = string.match(place, "[^:]*$")
  local text = redis.call("HGET", KEYS[1], id)
  if text then
    local waiter = cjson.decode(text)
    for _, other in ipairs(waiter.rooms) do
      redis.call("ZREM", prefix .. other .. ":key:" .. key, place)
    end
    redis.call("HDEL", KEYS[1], id)
    local turn = tonumber(redis.call("ZSCORE", base .. ":keys", key))
    local after = redis.call("ZINCRBY", base .. ":keys", 1 / waiter.weight, key)
    redis.call("HSET", base .. ":turns", "", turn, key, after)
    redis.call("EXPIRE", base .. ":turns", 3600)
    messages[#messages + 1] = waiter.message
  end
end
return messages
