-- The budgets of a generation: hash `money`, field = budget, value "spent held limit alerted" in nano-dollars (-1 = none).
-- `alerted` is the limit of which 80 % were once reported. Sorted set `budgets`: those shown to people, scored by the end
-- of their window (Unix ms); sorted set `idle`: those that the ledger can count anew, scored by when to forget them.
local KEPT = 86400000 -- ms that a window is kept beyond its end: for calls that settle late and for whoever looks back

local function money_text(spent, held, limit, alerted)
  return string.format("%d %d %d %d", spent, held, limit, alerted)
end

local function parse_money(text)
  local spent, held, limit, alerted = string.match(text, "(%S+) (%S+) (%S+) (%S+)")
  return tonumber(spent), tonumber(held), tonumber(limit), tonumber(alerted)
end

-- RETURNS one value or false for every name
local function read_money(root, names)
  if #names == 0 then return {} end
  local found = redis.call("HMGET", root .. "money", unpack(names))
  for place, text in ipairs(found) do
    if text then
      local spent, held, limit, alerted = parse_money(text)
      found[place] = {spent = spent, held = held, limit = limit, alerted = alerted}
    end
  end
  return found
end

local function no_money()
  return {spent = 0, held = 0, limit = -1, alerted = -1}
end

-- Lines are name, value, name, value, …
local function write_money(root, lines)
  if #lines == 0 then return end
  for place = 2, #lines, 2 do
    local one = lines[place]
    lines[place] = money_text(one.spent, one.held, one.limit, one.alerted)
  end
  redis.call("HSET", root .. "money", unpack(lines))
end

-- A counter that is used: `ends` of its window (Unix ms, 0 = never), `idle` ms after which it may be forgotten (0 = never)
local function keep_money(root, name, now, ends, idle, is_new)
  local kind, before = root .. "budgets", now - KEPT
  if idle > 0 then
    kind, before = root .. "idle", now
    redis.call("ZADD", kind, now + idle, name)
  elseif is_new then
    redis.call("ZADD", kind, ends > 0 and ends or "+inf", name)
  end
  if not is_new then return end
  -- whoever adds one forgets some of its kind: the hash stays as large as what is in use
  local over = redis.call("ZRANGEBYSCORE", kind, "-inf", before, "LIMIT", 0, 10)
  if #over > 0 then
    redis.call("HDEL", root .. "money", unpack(over))
    redis.call("ZREM", kind, unpack(over))
  end
end
