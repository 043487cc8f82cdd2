-- What an admitted attempt holds: a record hold:<attempt>, a place in the index `holds` (score: admitted at, ms), and
-- `held` in every budget that the record names (part money). A settled one leaves "settled <amount> <budget> <budget> …"
-- behind for a while.
local MEMORY = 600000 -- ms; longer than any second settling of the same attempt may come late

local function is_settled(held)
  return string.sub(held, 1, 7) == "settled"
end

local function close_hold(root, attempt, amount, budgets)
  local left = "settled " .. whole(amount) .. " " .. table.concat(budgets, " ")
  redis.call("SET", root .. "hold:" .. attempt, left, "PX", MEMORY)
  redis.call("ZREM", root .. "holds", attempt)
end

-- Let go of the money and the slot. RETURNS the budgets of which `amount` has just made 80 % spent.
local function give_back(root, attempt, record, amount)
  local alerts = {}
  local hold = tonumber(record.amount)
  local lines = {}
  for place, money in ipairs(read_money(root, record.budgets)) do
    local name = record.budgets[place]
    if money then -- what was forgotten is not brought back
      money.held, money.spent = money.held - hold, money.spent + amount
      if amount > 0 and money.limit >= 0 and money.spent >= 0.8 * money.limit and money.alerted ~= money.limit then
        money.alerted = money.limit
        alerts[#alerts + 1] = name
      end
      lines[#lines + 1] = name
      lines[#lines + 1] = money
    end
  end
  write_money(root, lines)
  if record.has_slot then redis.call("ZREM", root .. "slots:" .. record.provider, attempt) end
  close_hold(root, attempt, amount, record.budgets)
  return alerts
end
