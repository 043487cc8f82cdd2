-- Put a step into the waiting rooms of all that could serve it; one that is in already takes its place anew.
-- A room is a provider's or a budget's. In it API keys take turns by virtual time (a turn costs 1 / weight), and the
-- steps of one key stand in order (priority, deadline, arrival).
-- KEYS[1] hash of waiters (id -> JSON)   KEYS[2] sorted set of the rooms: when (Unix ms) the clock calls somebody
-- KEYS[3] sorted set of the waiters whose time ends: when (Unix ms)
-- ARGV[1] prefix of a room's keys   ARGV[2] waiter id   ARGV[3] message (text)   ARGV[4] API key   ARGV[5] its weight
-- ARGV[6] place: text that sorts by (priority, deadline, arrival)   ARGV[7] when its time ends (Unix ms) or ""
-- ARGV[8], ARGV[9], … room, ms until it may have room
-- RETURNS how many steps are in the emptiest of the rooms, itself not counted
local prefix, id, key, place = ARGV[1], ARGV[2], ARGV[4], ARGV[6] .. ":" .. ARGV[2]
local known = redis.call("HGET", KEYS[1], id)
if known then
  local old = cjson.decode(known)
  for _, room in ipairs(old.rooms) do
    redis.call("ZREM", prefix .. room .. ":key:" .. old.key, old.place)
  end
end
local names, fewest = {}, nil
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 8, #ARGV, 2 do
  local room, others = ARGV[i], 0
  names[#names + 1] = room
  local keys = prefix .. room .. ":keys"
  if not redis.call("ZSCORE", keys, key) then
    -- who was away gets no credit for it, and who just left no second first turn
    local clock = tonumber(redis.call("HGET", prefix .. room .. ":turns", "") or "0")
    local last = tonumber(redis.call("HGET", prefix .. room .. ":turns", key) or "0")
    redis.call("ZADD", keys, math.max(clock, last), key)
  end
  for _, one in ipairs(redis.call("ZRANGE", keys, 0, -1)) do
    others = others + redis.call("ZCARD", prefix .. room .. ":key:" .. one)
  end
  redis.call("ZADD", prefix .. room .. ":key:" .. key, 0, place)
  redis.call("ZADD", KEYS[2], "LT", now + tonumber(ARGV[i + 1]), room)
  fewest = math.min(fewest or others, others)
end
if ARGV[7] ~= "" then redis.call("ZADD", KEYS[3], ARGV[7], id) end
redis.call("HSET", KEYS[1], id,
  cjson.encode({ message = ARGV[3], key = key, weight = tonumber(ARGV[5]), rooms = names, place = place }))
return fewest or 0
