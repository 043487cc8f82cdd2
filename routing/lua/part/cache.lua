-- Answers of requests, and the flights of those that have none yet. Below KEYS[1] .. ":cache:": answers, hash (request ->
-- text); used and ends, sorted sets (request -> Unix ms of its last use, of its end); bytes, of all texts together;
-- flight:<request>, text "<until, Unix ms> <flyer>", the flyer "" when nobody is waited for.
local cache = KEYS[1] .. ":cache:"

local function drop(request)
  local size = redis.call("HSTRLEN", cache .. "answers", request)
  if redis.call("HDEL", cache .. "answers", request) == 1 then redis.call("DECRBY", cache .. "bytes", size) end
  redis.call("ZREM", cache .. "used", request)
  redis.call("ZREM", cache .. "ends", request)
end

local function drop_ended(now)
  for _, request in ipairs(redis.call("ZRANGEBYSCORE", cache .. "ends", "-inf", now, "LIMIT", 0, 100)) do drop(request) end
end

-- RETURNS who flies for the request just now, and until when (Unix ms); or nothing
local function flyer_of(request, now)
  local known = redis.call("GET", cache .. "flight:" .. request)
  if not known then return nil end
  local until_ms, flyer = string.match(known, "^(%d+) (.*)$")
  if tonumber(until_ms) > now then return flyer, tonumber(until_ms) end
end

local function set_flight(request, flyer, now, ms)
  redis.call("SET", cache .. "flight:" .. request, string.format("%.0f %s", now + ms, flyer), "PX", ms)
end
