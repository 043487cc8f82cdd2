-- What an admitted attempt holds: a record hold:<attempt>, a place in the index `holds` (score: admitted at, ms), and
-- `held` in every budget that the record names (part money). A settled one leaves "settled <amount> <budget> <budget> …"
-- behind for a while, one that was given back "released 0 <budget> …".
local MEMORY = 600000 -- ms; longer than any second settling of the same attempt may come late

-- Also one that was given back
local function is_settled(held)
  return string.sub(held, 1, 1) ~= "{"
end

local function is_released(held)
  return string.sub(held, 1, 8) == "released"
end

-- RETURNS for what one was settled, and its budgets
local function settlement(held)
  local names = {}
  for word in string.gmatch(held, "%S+") do names[#names + 1] = word end
  table.remove(names, 1)
  return tonumber(table.remove(names, 1)), names
end

local function close_hold(root, attempt, amount, budgets, how)
  local left = (how or "settled") .. " " .. whole(amount) .. " " .. table.concat(budgets, " ")
  redis.call("SET", root .. "hold:" .. attempt, left, "PX", MEMORY)
  redis.call("ZREM", root .. "holds", attempt)
end

-- In place of what was held `amount` is spent. RETURNS the budgets of which it has just made 80 % spent.
local function spend(root, names, hold, amount)
  local alerts, lines = {}, {}
  for place, money in ipairs(read_money(root, names)) do
    local name = names[place]
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
  return alerts
end

-- Let go of the money and the slot. RETURNS the budgets of which `amount` has just made 80 % spent.
local function give_back(root, attempt, record, amount, how)
  local alerts = spend(root, record.budgets, tonumber(record.amount), amount)
  if record.has_slot then redis.call("ZREM", root .. "slots:" .. record.provider, attempt) end
  close_hold(root, attempt, amount, record.budgets, how)
  return alerts
end
