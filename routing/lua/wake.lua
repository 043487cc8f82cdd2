-- Take the next steps out of waiting rooms: of the front line before the other, of a line the API key whose turn it is.
-- KEYS as in part/room
-- ARGV[1] prefix of a room's keys   ARGV[2] how many to take of a room
-- ARGV[3] ms after which the clock looks into a room again, doubled each time until a release calls: ARGV[4] at most
-- ARGV[5..] rooms, called by a release; none: those whose moment has come, and the steps whose time is over,
--   at most 50 of each, called by the clock
-- RETURNS for each: the room that it was called out of ("": its time is over), its message; it is out of every other
--   room as well
local now, soon = now_ms(), tonumber(ARGV[3])
local called = {}

local function send(room, waiter)
  called[#called + 1] = room
  called[#called + 1] = waiter.message
end

-- RETURNS whether somebody was there
local function take_of(room, line)
  local base = prefix .. room .. ":" .. line
  local first = redis.call("ZRANGE", base .. ":keys", 0, 0, "WITHSCORES")
  local key, turn = first[1], first[2]
  if not key then return false end
  local place = redis.call("ZRANGE", base .. ":key:" .. key, 0, 0)[1]
  local waiter = step_out(string.match(place, "[^:]*$"))
  if not waiter then
    drop(room, line, key, place) -- what Redis has forgotten of it
    return true
  end
  local after = turn + 1 / waiter.weight
  redis.call("ZADD", base .. ":keys", "XX", after, key)
  redis.call("HSET", base .. ":turns", "", turn, key, after)
  redis.call("EXPIRE", base .. ":turns", 3600)
  send(room, waiter)
  return true
end

local function take(room)
  if take_of(room, "0") or take_of(room, "1") then return true end
  redis.call("ZREM", KEYS[2], room)
  redis.call("HDEL", KEYS[4], room)
  return false
end

local function look_again(room)
  local pause = tonumber(redis.call("HGET", KEYS[4], room) or soon)
  redis.call("ZADD", KEYS[2], now + pause, room)
  redis.call("HSET", KEYS[4], room, math.min(2 * pause, tonumber(ARGV[4])))
end

local rooms = { unpack(ARGV, 5) }
if #rooms == 0 then
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", now, "LIMIT", 0, 50)) do
    local waiter = step_out(id)
    if waiter then send("", waiter) end
  end
  rooms = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", now, "LIMIT", 0, 50)
  for _, room in ipairs(rooms) do look_again(room) end
else
  for _, room in ipairs(rooms) do
    -- also when nobody is there just now: whoever was refused before this release and comes after it is not left alone
    redis.call("HDEL", KEYS[4], room)
    redis.call("ZADD", KEYS[2], "XX", "LT", now + soon, room)
  end
end
for _, room in ipairs(rooms) do
  for _ = 1, tonumber(ARGV[2]) do
    if not take(room) then break end
  end
end
return called
