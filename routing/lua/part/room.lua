-- Where steps wait. Of a room, below ARGV[1] .. its name: hash (line -> how many stand in it), and for each of its lines,
-- "0" and "1" behind it: keys, sorted set (API key -> virtual time of its next turn); key:<key>, sorted set of its places;
-- turns, hash (API key -> virtual time after its last turn, "" -> that of the line).
-- KEYS[1] hash of waiters (id -> JSON)   KEYS[2] sorted set of the rooms: when (Unix ms) the clock calls somebody
-- KEYS[3] sorted set of the waiters whose time ends: when (Unix ms)
-- KEYS[4] hash of the rooms that the clock has looked into since a release did: ms from its next look to the one after it
local prefix = ARGV[1]

local function drop(room, line, key, place)
  local base = prefix .. room .. ":" .. line
  if redis.call("ZREM", base .. ":key:" .. key, place) == 0 then return end
  if redis.call("HINCRBY", prefix .. room, line, -1) < 1 then redis.call("HDEL", prefix .. room, line) end
  if redis.call("EXISTS", base .. ":key:" .. key) == 0 then redis.call("ZREM", base .. ":keys", key) end
end

-- RETURNS the waiter, which has left all its rooms, or nothing when it had left before
local function step_out(id)
  local text = redis.call("HGET", KEYS[1], id)
  redis.call("ZREM", KEYS[3], id)
  if not text then return nil end
  redis.call("HDEL", KEYS[1], id)
  local waiter = cjson.decode(text)
  for _, room in ipairs(waiter.rooms) do drop(room, waiter.line, waiter.key, waiter.place) end
  return waiter
end
