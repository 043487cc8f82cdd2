-- An admitted call was never made: give everything back, its place in the windows included.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt
-- RETURNS {"rebuilding" | "released" | "again" (settled before) | "unknown"}
local root = generation_root()
if not root then return {"rebuilding"} end
local attempt = cjson.decode(ARGV[1]).attempt
local now = now_ms()
local held = redis.call("GET", root .. "hold:" .. attempt)
if not held then return {"unknown"} end
if is_settled(held) then return {"again"} end
local record = cjson.decode(held)
for _, scope in ipairs(record.windows) do
  local window = open_window(root .. "window:" .. scope[1], now, record.span)
  count(window, scope[2], -1, -record.tokens)
  if scope[3] > 0 then window.request_tat = window.request_tat - record.span / scope[3] end
  if scope[4] > 0 then window.token_tat = window.token_tat - record.tokens * record.span / scope[4] end
  save_window(window)
end
end_probe(attempt, record)
give_back(root, attempt, record, 0, "released")
return {"released"}
