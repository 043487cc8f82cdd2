-- The answer of a request; who finds none, and nobody who flies for it, is its flyer until the lease ends. A flight never
-- ends sooner than was said before: a call that lies in a queue is renewed by nobody.
-- KEYS[1] prefix
-- ARGV[1] JSON: request (digest); flyer (name, not empty); lease_ms
-- RETURNS {"hit", text} | {"fly"} (the flight is the asker's, now or still) | {"wait"} (it is another's)
--      or {"alone"}: a flight has just brought nothing to keep, so everybody makes a call of their own for a while
local ask = cjson.decode(ARGV[1])
local now = now_ms()
drop_ended(now)
local ends = tonumber(redis.call("ZSCORE", cache .. "ends", ask.request) or "0")
local text = ends > now and redis.call("HGET", cache .. "answers", ask.request)
if text then
  redis.call("ZADD", cache .. "used", now, ask.request)
  return {"hit", text}
end
local flyer, until_ms = flyer_of(ask.request, now)
if flyer == "" then return {"alone"} end
if flyer and flyer ~= ask.flyer then return {"wait"} end
set_flight(ask.request, ask.flyer, now, math.max(ask.lease_ms, (until_ms or now) - now))
return {"fly"}
