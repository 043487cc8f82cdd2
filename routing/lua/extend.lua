-- A call under way may cost more than it holds: hold the rest in every budget above it, or nothing.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt; amount (nano-dollars, in all)
-- RETURNS {"rebuilding" | "extended" | "refused" | "unknown" (settled, or lost)}
local root = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if not held or string.sub(held, 1, 1) ~= "{" then return {"unknown"} end
local record = cjson.decode(held)
local more, lines = ask.amount - tonumber(record.amount), {}
for place, money in ipairs(read_money(root, record.budgets)) do
  -- a counter that was rebuilt has no limit before somebody asks under it
  if not money or money.limit < 0 or more > money.limit - money.spent - money.held then return {"refused"} end
  money.held = money.held + more
  lines[2 * place - 1], lines[2 * place] = record.budgets[place], money
end
write_money(root, lines)
record.amount = whole(ask.amount)
redis.call("SET", root .. "hold:" .. ask.attempt, cjson.encode(record))
return {"extended"}
