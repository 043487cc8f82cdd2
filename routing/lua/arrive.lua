-- An admitted call is made only now: its place in the windows moves to this moment, so that no minute holds more calls
-- than it may, whenever they were admitted.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt; late (ms after its admission, or after it arrived before, for which its place is good)
-- RETURNS {"rebuilding" | "arrived" | "full" (its place has left, and there is no room now: nothing has changed)
--          | "unknown" (nothing is held for it any more)}
local root = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if not held or is_settled(held) then return {"unknown"} end
local record = cjson.decode(held)
if now - (record.arrived or record.at) <= ask.late then return {"arrived"} end

-- Of a call that a rebuild found no limits are known: it has its place, or none.
local function has_room(window, rpm, tpm)
  if rpm == 0 and tpm == 0 then return false end
  return (rpm == 0 or window.requests + 1 <= rpm) and (tpm == 0 or window.tokens + record.tokens <= tpm)
end

local windows = {}
for place, scope in ipairs(record.windows) do
  local window = open_window(root .. "window:" .. scope[1], now, record.span)
  if scope[2] < window.tail and not has_room(window, scope[3], scope[4]) then return {"full"} end
  windows[place] = window
end
for place, window in ipairs(windows) do
  local scope = record.windows[place]
  count(window, scope[2], -1, -record.tokens)
  count(window, window.bucket, 1, record.tokens)
  save_window(window)
  scope[2] = window.bucket
end
record.arrived = now
redis.call("SET", root .. "hold:" .. ask.attempt, cjson.encode(record))
return {"arrived"}
