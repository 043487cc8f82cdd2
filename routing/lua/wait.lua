-- Put a step into the waiting rooms of all that could serve it; one that is in already takes its place anew.
-- A room is a provider's or a budget's. In its line API keys take turns by virtual time (a turn costs 1 / weight), and the
-- steps of one key stand in order (priority, deadline, arrival).
-- KEYS as in part/room
-- ARGV[1] prefix of a room's keys   ARGV[2] waiter id   ARGV[3] message (text)   ARGV[4] API key   ARGV[5] its weight
-- ARGV[6] line   ARGV[7] place: text that sorts by (priority, deadline, arrival)
-- ARGV[8] when its time ends (Unix ms) or ""   ARGV[9] ms until the clock looks into a room of which nothing is known
-- ARGV[10] the room that it was called out of in vain: its key has that turn back, as a turn is for a place ("": none)
-- ARGV[11], ARGV[12], … room, ms until it may have room (-1: not known)
-- RETURNS for each room how many are called before it while keys of equal weight take turns
local id, key, line, place = ARGV[2], ARGV[4], ARGV[6], ARGV[7] .. ":" .. ARGV[2]
local now = now_ms()
step_out(id)
local names, ahead = {}, {}
for i = 11, #ARGV, 2 do
  local room, after = ARGV[i], tonumber(ARGV[i + 1])
  local base = prefix .. room .. ":" .. line
  local keys, own = base .. ":keys", base .. ":key:" .. key
  if not redis.call("ZSCORE", keys, key) then
    -- who was away gets no credit for it, and who just left no second first turn
    local clock = tonumber(redis.call("HGET", base .. ":turns", "") or "0")
    local last = tonumber(redis.call("HGET", base .. ":turns", key) or "0")
    redis.call("ZADD", keys, math.max(clock, last), key)
  end
  if room == ARGV[10] then
    redis.call("HSET", base .. ":turns", key, redis.call("ZINCRBY", keys, -1 / tonumber(ARGV[5]), key))
  end
  redis.call("ZADD", own, 0, place)
  if after < 0 then after = tonumber(redis.call("HGET", KEYS[4], room) or ARGV[9]) end
  redis.call("ZADD", KEYS[2], "LT", now + after, room)
  local before = redis.call("ZRANK", own, place)
  local others = redis.call("HINCRBY", prefix .. room, line, 1) - redis.call("ZCARD", own)
  local turns = (before + 1) * (redis.call("ZCARD", keys) - 1)
  local front = line == "0" and 0 or tonumber(redis.call("HGET", prefix .. room, "0") or "0")
  names[#names + 1] = room
  ahead[#ahead + 1] = before + math.min(others, turns) + front
end
if ARGV[8] ~= "" then redis.call("ZADD", KEYS[3], ARGV[8], id) end
redis.call("HSET", KEYS[1], id, cjson.encode({
  message = ARGV[3], key = key, weight = tonumber(ARGV[5]), line = line, rooms = names, place = place,
}))
return ahead
