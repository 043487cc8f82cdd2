-- The breaker of a provider's key or of one candidate, shared by the fleet.
-- Hash: state (closed | open; open past `until` is half open), generation (grows with every change of state), until ms,
-- streak (openings in a row); if a key opened it: lock (why it does not work), key (its fingerprint), unlisted (1: its
-- list was refused, too); probe (the attempt let through) and probe_until ms, ramp ms (recovered at) and let (calls
-- since), cool ms (left alone until), changed ms (state or cool), ok/bad and ok_before/bad_before (outcomes of this period
-- and the one before it), start ms (of this period), row (failures since the last success), learned_requests,
-- learned_tokens and learned_until ms (limits that the vendor told); of a provider alone heard ms (anything, also a check)
-- and worked ms (a call that was good).
-- Hash `rests`: field = name, value "until reason" of those who are left alone, for who ranks.
local RAMP_STEP, RAMP_STEPS = 3000, 10 -- 1, 2, 4, … calls in all, doubled every step; open wide after the last
local MEMORY_OF_BREAKERS = 86400000 -- ms
local OF_A_STATE = { -- what the next one begins without
  "until", "lock", "key", "unlisted", "probe", "probe_until", "ramp", "let", "ok", "bad", "ok_before", "bad_before", "start",
  "row",
}
local KEPT = {"state", "generation", "until", "streak", "lock", "key", "unlisted", "ramp", "cool", "changed"}

-- Of which nothing is known but outcomes, as of most
local CALM = {__index = {
  is_open = false, generation = 0, until_ms = 0, probe = "", probe_until = 0, ramp = 0, let = 0, cool = 0,
  learned_requests = 0, learned_tokens = 0, learned_until = 0, changed = 0,
}}

local function read_breaker(name)
  local key = KEYS[1] .. ":breaker:" .. name
  local known = redis.call("HMGET", key, "state", "generation", "until", "probe", "probe_until", "ramp", "let", "cool",
    "learned_requests", "learned_tokens", "learned_until", "lock", "key", "unlisted", "changed")
  if not (known[1] or known[8] or known[11]) then return setmetatable({key = key}, CALM) end
  return {
    key = key, is_open = known[1] == "open", generation = tonumber(known[2]) or 0,
    until_ms = tonumber(known[3]) or 0, probe = known[4] or "", probe_until = tonumber(known[5]) or 0,
    ramp = tonumber(known[6]) or 0, let = tonumber(known[7]) or 0, cool = tonumber(known[8]) or 0,
    learned_requests = tonumber(known[9]) or 0, learned_tokens = tonumber(known[10]) or 0,
    learned_until = tonumber(known[11]) or 0, lock = known[12], locked_key = known[13] or "", is_unlisted = known[14],
    changed = tonumber(known[15]) or 0,
  }
end

local function ramp_step(breaker, now)
  return math.max(0, math.floor((now - breaker.ramp) / RAMP_STEP))
end

-- A probe of which nobody will tell the end is over: its worker went away and its hold was settled, or it was lost.
local function is_probing(breaker, now, root)
  if breaker.probe == "" or breaker.probe_until <= now then return false end
  local held = redis.call("GET", root .. "hold:" .. breaker.probe)
  return held and string.sub(held, 1, 1) == "{"
end

-- Whose key was refused may try another one at once: it has a probe.
local function has_another(breaker, key)
  return breaker.lock and breaker.locked_key ~= key
end

-- RETURNS nothing when a call with this key may pass, else the reason and the ms to wait (-1: not known)
local function breaker_refusal(breaker, now, root, key)
  if breaker.cool > now then return "cooling", breaker.cool - now end
  if breaker.is_open then
    if breaker.until_ms > now and not has_another(breaker, key) then
      return breaker.lock and "locked" or "open", breaker.until_ms - now
    end
    if is_probing(breaker, now, root) then return "probing", -1 end
  elseif breaker.ramp > 0 then
    local step = ramp_step(breaker, now)
    if step < RAMP_STEPS and breaker.let >= 2 ^ step then
      return "ramp", breaker.ramp + (step + 1) * RAMP_STEP - now
    end
  end
end

-- RETURNS true when the call is the probe
local function pass_breaker(breaker, now, attempt, probe_ms)
  if breaker.is_open then
    redis.call("HSET", breaker.key, "probe", attempt, "probe_until", now + probe_ms)
    return true
  end
  if breaker.ramp > 0 then
    if ramp_step(breaker, now) < RAMP_STEPS then
      redis.call("HINCRBY", breaker.key, "let", 1)
    else
      redis.call("HDEL", breaker.key, "ramp", "let", "streak")
    end
  end
  return false
end

-- The call of this record says nothing: the next one may be the probe. RETURNS whether it was.
local function end_probe(attempt, record)
  local was_probe = false
  for _, name in ipairs(record.is_probe and {record.provider, record.candidate} or {}) do
    local breaker = read_breaker(name)
    if breaker.probe == attempt then
      redis.call("HDEL", breaker.key, "probe", "probe_until")
      was_probe = true
    end
  end
  return was_probe
end

-- What must outlive Redis, as JSON
local function kept_state(name, key)
  local known, state = redis.call("HMGET", key, unpack(KEPT)), {}
  for place, field in ipairs(KEPT) do state[field] = known[place] or nil end
  state.reason = string.match(redis.call("HGET", KEYS[1] .. ":rests", name) or "", "^%d+ (.*)$")
  return cjson.encode(state)
end

-- Take a kept state back, unless something newer is known
local function restore_breaker(name, state, now)
  local key = KEYS[1] .. ":breaker:" .. name
  if (tonumber(redis.call("HGET", key, "changed")) or 0) >= tonumber(state.changed) then return end
  redis.call("HDEL", key, unpack(OF_A_STATE))
  for _, field in ipairs(KEPT) do
    if state[field] then redis.call("HSET", key, field, state[field]) end
  end
  redis.call("PEXPIRE", key, MEMORY_OF_BREAKERS)
  local rest = math.max(state.state == "open" and tonumber(state["until"]) or 0, tonumber(state.cool) or 0)
  if rest > now then redis.call("HSET", KEYS[1] .. ":rests", name, string.format("%d %s", rest, state.reason or "")) end
end
