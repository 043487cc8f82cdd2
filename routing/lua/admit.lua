-- Take everything that a call needs for the first candidate that has room, or nothing at all.
-- KEYS[1] prefix, with its hash tag; every key is below it
-- ARGV[1] JSON: attempt; span (ms that a window counts); budgets [[name, limit nano-dollars, window ms or 0, idle ms or 0,
--   nano-dollars spent if nothing is known of it here (absent: 0)]…]
-- ARGV[2…] JSON, the candidates in order of preference: provider; key (its fingerprint); candidate; amount
--   (nano-dollars); tokens; is_counted_on_arrival; slot_ms; concurrency, rpm, tpm (0 = none); request_burst, token_burst (ms of the pace);
--   budgets as above. Limits and sums of money are exact up to 2^53.
-- RETURNS {"rebuilding"}
--      or {"admitted", place of the candidate from 0, admitted at (Unix ms), generation, 1 when it is a probe, then for
--         each candidate before it: reason, ms to wait (-1: not known, or for ever), what is short: the provider, the
--         candidate, a budget's counter followed by its limit, spent and held, or a provider followed by its lock}
--      or {"refused", then the same for every candidate}
-- Asked again for an attempt that holds already, it answers as before: an answer may be lost on its way.
local root, generation = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local now = now_ms()

local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if held and string.sub(held, 1, 1) == "{" then -- not settled
  local record = cjson.decode(held)
  for place = 2, #ARGV do
    if cjson.decode(ARGV[place]).candidate == record.candidate then
      return {"admitted", place - 2, record.at, generation, record.is_probe and 1 or 0, unpack(record.passed or {})}
    end
  end
end

local known = {} -- budgets by the names of their counters: each is read once

local function budget_of(line)
  local name, window, ends = line[1], line[3], 0
  if window > 0 then
    ends = (math.floor(now / window) + 1) * window
    name = name .. "@" .. whole((ends - window) / 1000)
  end
  return known[name] or {name = name, limit = line[2], ends = ends, idle = line[4], spent = line[5] or 0}
end

-- Add to a candidate's budgets those of a list of lines
local function gather(above, unread, lines)
  for place = 1, #lines do
    local budget = budget_of(lines[place])
    above[#above + 1] = budget
    if not known[budget.name] then
      known[budget.name] = budget
      unread[#unread + 1] = budget.name
    end
  end
end

-- The budgets that a candidate's call is held against, as they stand
local function budgets_above(one)
  local above, unread = {}, {}
  gather(above, unread, ask.budgets)
  gather(above, unread, one.budgets)
  if #unread == 0 then return above end
  local found = redis.call("HMGET", root .. "money", unpack(unread))
  for place = 1, #unread do
    local budget, text, _ = known[unread[place]], found[place], nil
    if text then
      budget.spent, budget.held, _, budget.alerted = parse_money(text) -- the limit is the asker's
    else
      budget.held, budget.alerted, budget.is_new = 0, -1, true
    end
  end
  return above
end

-- "too_dear": more than the whole budget; "budget": what is spent leaves no room; "held": room may come back when other
-- calls settle for less. The gravest counts, and of budgets that are spent the one that begins anew last, or never: no
-- window that ends before helps a call that it stands above.
local GRAVITY = {held = 1, budget = 2, too_dear = 4}
local function money_refusal(one)
  local reason, short, gravity = nil, nil, 0
  if one.amount == 0 then return nil end
  for place = 1, #one.above do
    -- subtracted, because a sum past 2^53 would be rounded
    local budget, worse = one.above[place], nil
    local left = budget.limit - budget.spent
    if one.amount > budget.limit then
      worse = "too_dear"
    elseif one.amount > left then
      worse = "budget"
    elseif one.amount > left - budget.held then
      worse = "held"
    end
    local weight = worse and GRAVITY[worse] + (worse == "budget" and budget.ends == 0 and 1 or 0) or 0
    local is_later = worse == "budget" and weight == gravity and budget.ends > short.ends
    if weight > gravity or is_later then reason, short, gravity = worse, budget, weight end
  end
  if not reason then return nil end
  -- what is held may come back at any moment, also from a call whose worker is gone
  local wait = reason == "budget" and short.ends > 0 and short.ends - now or -1
  return reason, wait, string.format("%s %d %d %d", short.name, short.limit, short.spent, short.held)
end

local function windows_of(one, breaker)
  local windows = {}
  if one.rpm > 0 or one.tpm > 0 then windows[1] = {name = one.provider, limits = one} end
  if breaker.learned_until > now then
    windows[#windows + 1] = {name = one.candidate, limits = {
      rpm = breaker.learned_requests, tpm = breaker.learned_tokens, token_burst = one.token_burst,
      -- as Rate.request_burst_ms has it for what is configured
      request_burst = math.max(ask.span / 10, 5 * ask.span / math.max(breaker.learned_requests, 1)),
    }}
  end
  return windows
end

local function refusal_of(one)
  one.breakers = {read_breaker(one.provider), read_breaker(one.candidate)}
  for place, breaker in ipairs(one.breakers) do
    local reason, wait = breaker_refusal(breaker, now, root, one.key)
    if reason then
      local name = place == 1 and one.provider or one.candidate
      return reason, wait, reason == "locked" and name .. " " .. breaker.lock or name
    end
  end
  one.above = budgets_above(one)
  local reason, wait, short = money_refusal(one)
  if reason then return reason, wait, short end
  one.windows = windows_of(one, one.breakers[2])
  for _, scope in ipairs(one.windows) do
    scope.window = open_window(root .. "window:" .. scope.name, now, ask.span)
    reason, wait = window_refusal(scope.window, scope.limits, one.tokens)
    if reason then return reason, wait, scope.name end
  end
  if one.concurrency > 0 then
    local slots = root .. "slots:" .. one.provider
    if redis.call("ZCARD", slots) >= one.concurrency then
      redis.call("ZREMRANGEBYSCORE", slots, "-inf", now)
      if redis.call("ZCARD", slots) >= one.concurrency then return "slots", -1, one.provider end
    end
  end
end

local function hold_money(one)
  local names, lines = {}, {}
  for place = 1, #one.above do
    local budget = one.above[place]
    names[place] = budget.name
    lines[2 * place - 1] = budget.name
    lines[2 * place] = money_text(budget.spent, budget.held + one.amount, budget.limit, budget.alerted)
    if budget.is_new or budget.idle > 0 then
      keep_money(root, budget.name, now, budget.ends, budget.idle, budget.is_new)
    end
  end
  if #lines > 0 then redis.call("HSET", root .. "money", unpack(lines)) end
  return names
end

local function take(one, passed)
  local is_probe = false
  for _, breaker in ipairs(one.breakers) do
    if pass_breaker(breaker, now, ask.attempt, one.slot_ms) then is_probe = true end
  end
  local scopes = {}
  for _, scope in ipairs(one.windows) do
    take_window(scope.window, scope.limits, one.tokens)
    scopes[#scopes + 1] = {scope.name, scope.window.bucket, scope.limits.rpm, scope.limits.tpm}
  end
  if one.concurrency > 0 then redis.call("ZADD", root .. "slots:" .. one.provider, now + one.slot_ms, ask.attempt) end
  local record = {
    at = now, provider = one.provider, candidate = one.candidate, amount = whole(one.amount), tokens = one.tokens,
    is_counted_on_arrival = one.is_counted_on_arrival, has_slot = one.concurrency > 0, is_probe = is_probe,
    budgets = hold_money(one), windows = scopes, span = ask.span,
    generations = {one.breakers[1].generation, one.breakers[2].generation}, passed = #passed > 0 and passed or nil,
  }
  redis.call("SET", root .. "hold:" .. ask.attempt, cjson.encode(record))
  redis.call("ZADD", root .. "holds", now, ask.attempt)
  return is_probe
end

local short_of = {}
for place = 2, #ARGV do
  local one = cjson.decode(ARGV[place]) -- one by one: most often the first has room
  local reason, wait, short = refusal_of(one)
  if not reason then
    local is_probe = take(one, short_of)
    return {"admitted", place - 2, now, generation, is_probe and 1 or 0, unpack(short_of)}
  end
  short_of[#short_of + 1] = reason
  short_of[#short_of + 1] = wait
  short_of[#short_of + 1] = short
end
return {"refused", unpack(short_of)}
