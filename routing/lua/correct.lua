-- A call whose end nobody saw was settled for more or less than it cost, as is known now: its budgets take the difference.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt; amount (nano-dollars, of the whole call)
-- RETURNS {"rebuilding" | "corrected" | "settled" (nobody had yet) | "unknown": too long ago, or counted by a rebuild}
local root = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if not held then return {"unknown"} end
if not is_settled(held) then
  give_back(root, ask.attempt, cjson.decode(held), ask.amount)
  return {"settled"}
end
local before, names = settlement(held)
local lines = {}
for place, money in ipairs(read_money(root, names)) do
  if money then
    money.spent = money.spent + ask.amount - before
    lines[#lines + 1] = names[place]
    lines[#lines + 1] = money
  end
end
write_money(root, lines)
close_hold(root, ask.attempt, ask.amount, names)
return {"corrected"}
