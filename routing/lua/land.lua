-- A flight is over. With `alone_ms` it has brought nothing to keep: for so long nobody is waited for.
-- KEYS[1] prefix
-- ARGV[1] JSON: request (digest); flyer; alone_ms (0: whoever asks next may fly)
-- RETURNS {"landed" | "unknown" (it is another's by now, or nobody's)}
local ask = cjson.decode(ARGV[1])
local now = now_ms()
if flyer_of(ask.request, now) ~= ask.flyer then return {"unknown"} end
if ask.alone_ms > 0 then
  set_flight(ask.request, "", now, ask.alone_ms)
else
  redis.call("DEL", cache .. "flight:" .. ask.request)
end
return {"landed"}
