-- Counters of a generation that nobody uses yet, as the ledger knows them, and the breakers as they were kept there.
-- KEYS[1] prefix
-- ARGV[1] JSON: generation; now (Unix ms); span (ms that a window counts);
--   spent [[budget, nano-dollars, ends (Unix ms, 0 = never), idle ms or 0]…];
--   worked [provider…]: calls of theirs went well;
--   breakers [[name, state (JSON, as `judge` told it)]…], before any holds;
--   holds [{attempt, at (admitted, Unix ms), provider, candidate, amount, tokens, slot_until (Unix ms),
--     budgets [[name, ends, idle]…]}…]: attempts that are open;
--   calls [[provider or candidate, at (Unix ms), tokens]…]: whatever was admitted within the span, oldest first. They keep their
--     reservations until they leave the window: for a minute the sum is too high, never too low.
-- RETURNS the number of holds
local ask = cjson.decode(ARGV[1])
local root = KEYS[1] .. ":counters:" .. ask.generation .. ":"

local function add(name, ends, idle, spent, held)
  local money = read_money(root, {name})[1]
  keep_money(root, name, ask.now, ends, idle, not money)
  money = money or no_money()
  money.spent, money.held = money.spent + spent, money.held + held
  write_money(root, {name, money})
end

for _, line in ipairs(ask.spent) do add(line[1], line[3], line[4], line[2], 0) end
for _, line in ipairs(ask.calls) do
  local window = open_window(root .. "window:" .. line[1], line[2], ask.span)
  count(window, window.bucket, 1, line[3])
  save_window(window)
end
for _, name in ipairs(ask.worked) do redis.call("HSET", KEYS[1] .. ":breaker:" .. name, "worked", ask.now) end
for _, line in ipairs(ask.breakers) do restore_breaker(line[1], cjson.decode(line[2]), ask.now) end

-- Of both breakers the generation that a call was admitted under: -1 for one that is over. RETURNS also whether it is the
-- probe: nobody else was let through since the rest was over.
local function admitted_under(one)
  local generations, is_probe = {}, false
  for place, name in ipairs({one.provider, one.candidate}) do
    local breaker = read_breaker(name)
    local is_of_now = breaker.changed <= one.at
    generations[place] = is_of_now and breaker.generation or -1
    if is_of_now and pass_breaker(breaker, one.at, one.attempt, one.slot_until - one.at) then is_probe = true end
  end
  return generations, is_probe
end

for _, one in ipairs(ask.holds) do
  local names, generations, is_probe = {}, admitted_under(one)
  for _, line in ipairs(one.budgets) do
    add(line[1], line[2], line[3], 0, one.amount)
    names[#names + 1] = line[1]
  end
  redis.call("ZADD", root .. "slots:" .. one.provider, one.slot_until, one.attempt)
  local bucket = math.floor(one.at / GRAIN) -- where `calls` has put it, if that is not too long ago
  redis.call("SET", root .. "hold:" .. one.attempt, cjson.encode({
    at = one.at, provider = one.provider, candidate = one.candidate, amount = whole(one.amount), tokens = one.tokens,
    is_counted_on_arrival = true, has_slot = true, is_probe = is_probe, budgets = names,
    windows = {{one.provider, bucket, 0, 0}, {one.candidate, bucket, 0, 0}},
    span = ask.span, generations = generations,
  }))
  redis.call("ZADD", root .. "holds", one.at, one.attempt)
end
return #ask.holds
