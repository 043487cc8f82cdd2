-- What an admitted attempt holds: a record hold:<attempt>, a place in the index `holds` (score: admitted at, ms), and
-- `held` in every budget that the record names. A settled one leaves the word "settled" behind for a while.
local MEMORY = 600000 -- ms; longer than any second settling of the same attempt may come late

local function close_hold(root, attempt)
  redis.call("SET", root .. "hold:" .. attempt, "settled", "PX", MEMORY)
  redis.call("ZREM", root .. "holds", attempt)
end

-- Let go of the money and the slot. RETURNS the budgets of which `amount` has just made 80 % spent.
local function give_back(root, attempt, record, amount)
  local alerts = {}
  local hold = tonumber(record.amount)
  for _, name in ipairs(record.budgets) do
    local key = root .. "budget:" .. name
    local known = redis.call("HMGET", key, "held", "spent", "limit", "alerted")
    if known[1] then -- a window that is over is not brought back
      local spent, limit = (tonumber(known[2]) or 0) + amount, tonumber(known[3])
      redis.call("HSET", key, "held", whole(tonumber(known[1]) - hold), "spent", whole(spent))
      if amount > 0 and limit and spent >= 0.8 * limit and known[4] ~= known[3] then
        redis.call("HSET", key, "alerted", known[3])
        alerts[#alerts + 1] = name
      end
    end
  end
  if record.has_slot then redis.call("ZREM", root .. "slots:" .. record.provider, attempt) end
  close_hold(root, attempt)
  return alerts
end
