-- Keep an answer within the bounds: whatever was not used for longest goes first.
-- KEYS[1] prefix
-- ARGV[1] JSON: request (digest); text; ttl_ms; entries (the most); bytes (the most, of all texts together)
-- RETURNS {"kept", how many were dropped for it} | {"too_large"}
local ask = cjson.decode(ARGV[1])
local now = now_ms()
if #ask.text > ask.bytes then return {"too_large"} end
drop_ended(now)
drop(ask.request)
redis.call("HSET", cache .. "answers", ask.request, ask.text)
redis.call("ZADD", cache .. "used", now, ask.request)
redis.call("ZADD", cache .. "ends", now + ask.ttl_ms, ask.request)
local bytes, dropped = redis.call("INCRBY", cache .. "bytes", #ask.text), 0
while bytes > ask.bytes or redis.call("ZCARD", cache .. "used") > ask.entries do
  drop(redis.call("ZRANGE", cache .. "used", 0, 0)[1])
  bytes, dropped = tonumber(redis.call("GET", cache .. "bytes")), dropped + 1
end
for _, key in ipairs({"answers", "used", "ends", "bytes"}) do redis.call("PEXPIRE", cache .. key, ask.ttl_ms) end
return {"kept", dropped}
