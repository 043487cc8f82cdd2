-- Take everything that a call needs for the first candidate that has room, or nothing at all.
-- KEYS[1] prefix, with its hash tag; every key is below it
-- ARGV[1] JSON: attempt; span (ms that a window counts); budgets [[name, limit nano-dollars, window ms or 0, idle ms or 0]…]
-- ARGV[2…] JSON, the candidates in order of preference: provider; candidate; amount (nano-dollars); tokens;
--   is_counted_on_arrival; slot_ms; concurrency, rpm, tpm (0 = none); request_burst, token_burst (ms of the pace);
--   budgets as above. Limits and sums of money are exact up to 2^53.
-- RETURNS {"rebuilding"}
--      or {"admitted", place of the candidate from 0, admitted at (Unix ms), generation, 1 when it is a probe, then for
--         each candidate before it: reason, ms to wait (-1: not known), what is short}
--      or {"refused", then the same for every candidate}
-- Asked again for an attempt that holds already, it answers as before, without reasons: an answer may be lost on its way.
local root, generation = generation_root()
if not root then return {"rebuilding"} end
local ask = cjson.decode(ARGV[1])
local now = now_ms()

local held = redis.call("GET", root .. "hold:" .. ask.attempt)
if held and held ~= "settled" then
  local record = cjson.decode(held)
  for place = 2, #ARGV do
    if cjson.decode(ARGV[place]).candidate == record.candidate then
      return {"admitted", place - 2, record.at, generation, record.is_probe and 1 or 0}
    end
  end
end

local known = {}

-- The budgets of a list of lines, as they stand; each is read once
local function budgets_of(lines)
  local budgets, missing, names = {}, {}, {}
  for place, line in ipairs(lines) do
    local name, window = line[1], line[3]
    local start = window > 0 and math.floor(now / window) * window or 0
    if window > 0 then name = name .. "@" .. whole(start / 1000) end
    if not known[name] then
      known[name] = {name = name, limit = line[2], ends = window > 0 and start + window or 0, idle = line[4]}
      names[#names + 1] = name
      missing[#missing + 1] = known[name]
    end
    budgets[place] = known[name]
  end
  for place, money in ipairs(read_money(root, names)) do
    missing[place].is_new = not money
    missing[place].money = money or no_money()
  end
  return budgets
end

local function above(one)
  local lines = {}
  for _, list in ipairs({ask.budgets, one.budgets}) do
    for _, line in ipairs(list) do lines[#lines + 1] = line end
  end
  return budgets_of(lines)
end

-- "budget": what is spent leaves no room; "held": room may come back when other calls settle for less
local function money_refusal(one)
  local reason, wait, short = nil, -1, ""
  if one.amount == 0 then return nil end
  for _, budget in ipairs(one.above) do
    -- subtracted, because a sum past 2^53 would be rounded
    local left = budget.limit - budget.money.spent
    local is_spent = one.amount > left
    if (is_spent and reason ~= "budget") or (not reason and one.amount > left - budget.money.held) then
      reason, short = is_spent and "budget" or "held", budget.name
      wait = budget.ends > 0 and budget.ends - now or -1
    end
  end
  return reason, wait, short
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
    local reason, wait = breaker_refusal(breaker, now)
    if reason then return reason, wait, place == 1 and one.provider or one.candidate end
  end
  one.above = above(one)
  local reason, wait, short = money_refusal(one)
  if reason then return reason, wait, short end
  one.windows = windows_of(one, one.breakers[2])
  for _, scope in ipairs(one.windows) do
    scope.window = open_window(root .. "window:" .. scope.name, now, ask.span)
    reason, wait = window_refusal(scope.window, scope.limits, one.tokens)
    if reason then
      save_window(scope.window)
      return reason, wait, scope.name
    end
  end
  if one.concurrency > 0 then
    local slots = root .. "slots:" .. one.provider
    redis.call("ZREMRANGEBYSCORE", slots, "-inf", now)
    if redis.call("ZCARD", slots) >= one.concurrency then return "slots", -1, one.provider end
  end
end

local function hold_money(one)
  local names, lines = {}, {}
  for place, budget in ipairs(one.above) do
    budget.money.held, budget.money.limit = budget.money.held + one.amount, budget.limit
    names[place] = budget.name
    lines[2 * place - 1], lines[2 * place] = budget.name, budget.money
    if budget.is_new or budget.idle > 0 then
      keep_money(root, budget.name, now, budget.ends, budget.idle, budget.is_new)
    end
  end
  write_money(root, lines)
  return names
end

local function take(one)
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
    generations = {one.breakers[1].generation, one.breakers[2].generation},
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
    local is_probe = take(one)
    return {"admitted", place - 2, now, generation, is_probe and 1 or 0, unpack(short_of)}
  end
  short_of[#short_of + 1] = reason
  short_of[#short_of + 1] = wait
  short_of[#short_of + 1] = short
end
return {"refused", unpack(short_of)}
