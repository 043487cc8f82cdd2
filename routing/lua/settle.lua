-- A call has ended: its hold becomes the money really spent, and the windows learn what was really used.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt; amount (nano-dollars); input, output (tokens); generation of its admission; budgets (names)
--   The last two matter only when the record was lost: under the same generation nobody has counted the amount yet,
--   so the named budgets take it; under a later one the rebuild has, or found the attempt open and made its record.
-- RETURNS {"rebuilding" | "settled" | "again" (was settled before) | "added" (record lost, or given back and the call
--          made all the same) | "counted" (by the rebuild), then the budgets that have just passed 80 %}
local root, generation = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if held and is_released(held) then
  local _, names = settlement(held)
  close_hold(root, ask.attempt, ask.amount, names)
  return {"added", unpack(spend(root, names, 0, ask.amount))}
end
if held and is_settled(held) then return {"again"} end
if not held then
  if ask.generation ~= generation then return {"counted"} end
  local lines = {}
  for place, money in ipairs(read_money(root, ask.budgets)) do
    local name = ask.budgets[place]
    -- a window that was lost altogether; the two days are longer than any
    if not money and string.find(name, "@", 1, true) then keep_money(root, name, now, 0, 172800000, true) end
    money = money or no_money()
    money.spent = money.spent + ask.amount
    lines[2 * place - 1], lines[2 * place] = name, money
  end
  write_money(root, lines)
  close_hold(root, ask.attempt, ask.amount, ask.budgets)
  return {"added"}
end
local record = cjson.decode(held)
if not record.is_counted_on_arrival then
  -- input counts when the call was made, output at the latest when it ended
  for _, scope in ipairs(record.windows) do
    local window = open_window(root .. "window:" .. scope[1], now, record.span)
    count(window, scope[2], 0, ask.input - record.tokens)
    count(window, window.bucket, 0, ask.output)
    if scope[4] > 0 then
      window.token_tat = window.token_tat + (ask.input + ask.output - record.tokens) * record.span / scope[4]
    end
    save_window(window)
  end
end
return {"settled", unpack(give_back(root, ask.attempt, record, ask.amount))}
