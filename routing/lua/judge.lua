-- What the end of a call tells the breakers of its provider and its candidate.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt ("" = a call that was not admitted, such as a check); provider; candidate (absent: none);
--   key (fingerprint of the provider's key that was used, "" = none); again (absent: false; a call whose end the ledger
--   tells once more, so no check); verdict: good | bad (a failure in the
--   rate) | cool (leave the candidate alone for rest_ms) | open (open the whole key for rest_ms, because of lock) | none
--   (says nothing); rest_ms; lock; cool_ms (leave the candidate alone for so long, beside a verdict other than cool;
--   0 = no wish); reason; threshold (failure rate, 0..1) and samples that open;
--   period_ms of the rate; rest_base_ms, doubled by every opening in a row up to rest_max_ms;
--   learned_requests, learned_tokens (per minute, 0 = not told) and learned_ms that they are believed; used_requests,
--   used_tokens of them by the vendor's count, free again in requests_free_ms, tokens_free_ms; span (ms that a window counts)
-- RETURNS names, what became of them, and what of that must outlive Redis (JSON, as `load` takes it):
--   {name, "opened" | "closed" | "cooled", state, …}
-- A call admitted before a breaker changed its state says nothing about the new one.
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local changes = {}
local IN_A_ROW = 4

-- `until_ms`: who is left alone, and was not for longer before; nothing: only a cooldown is left of it
local function note(breaker, name, what, until_ms)
  changes[#changes + 1] = {name, what, breaker.key}
  -- later than the one before, also within a millisecond: whoever keeps both in the ledger must know the newer one
  breaker.changed = math.max(now, breaker.changed + 1)
  redis.call("HSET", breaker.key, "changed", breaker.changed)
  local rests = KEYS[1] .. ":rests"
  local known, reason = string.match(redis.call("HGET", rests, name) or "0 ", "^(%d+) (.*)$")
  if until_ms and until_ms > tonumber(known) then
    redis.call("HSET", rests, name, whole(until_ms) .. " " .. ask.reason)
  elseif not until_ms and breaker.cool > now then
    redis.call("HSET", rests, name, whole(breaker.cool) .. " " .. reason)
  elseif not until_ms then
    redis.call("HDEL", rests, name)
  end
end

local function generations_seen()
  if ask.attempt == "" then return nil end
  local root = generation_root()
  local held = root and redis.call("GET", root .. "hold:" .. ask.attempt)
  if not held or string.sub(held, 1, 1) ~= "{" then return {-1, -1} end -- settled, or lost
  return cjson.decode(held).generations
end

local function trip(name, breaker, verdict)
  local streak = tonumber(redis.call("HGET", breaker.key, "streak") or 0)
  local is_of_key = verdict == "open"
  local rest = is_of_key and ask.rest_ms or math.min(ask.rest_base_ms * 2 ^ streak, ask.rest_max_ms)
  redis.call("HDEL", breaker.key, unpack(OF_A_STATE))
  if is_of_key then redis.call("HSET", breaker.key, "lock", ask.lock, "key", ask.key) end
  if is_of_key and ask.attempt == "" and not ask.again then redis.call("HSET", breaker.key, "unlisted", 1) end
  redis.call("HSET", breaker.key, "state", "open", "until", now + rest, "streak", streak + 1,
    "generation", breaker.generation + 1)
  note(breaker, name, "opened", now + rest)
end

local function close(name, breaker)
  redis.call("HDEL", breaker.key, "until", "probe", "probe_until", "lock", "key", "unlisted")
  redis.call("HSET", breaker.key, "state", "closed", "ramp", now, "let", 0, "generation", breaker.generation + 1)
  note(breaker, name, "closed")
end

-- Counts an outcome; RETURNS true when the failure rate of this period and the one before it is too high. Who has just
-- come back has no credit: there the first failure counts. Nor has who fails IN_A_ROW times the samples in a row.
local function is_too_bad(breaker, verdict)
  local known = redis.call("HMGET", breaker.key, "start", "ok", "bad", "ok_before", "bad_before", "row")
  local start = tonumber(known[1]) or now
  local ok, bad = tonumber(known[2]) or 0, tonumber(known[3]) or 0
  local ok_before, bad_before, row = tonumber(known[4]) or 0, tonumber(known[5]) or 0, tonumber(known[6]) or 0
  if now - start >= 2 * ask.period_ms then
    start, ok, bad, ok_before, bad_before, row = now, 0, 0, 0, 0, 0
  elseif now - start >= ask.period_ms then
    start, ok, bad, ok_before, bad_before = start + ask.period_ms, 0, 0, ok, bad
  end
  if verdict == "good" then ok, row = ok + 1, 0 else bad, row = bad + 1, row + 1 end
  redis.call("HSET", breaker.key, "start", start, "ok", ok, "bad", bad, "ok_before", ok_before, "bad_before", bad_before,
    "row", row)
  local failures, calls = bad + bad_before, ok + bad + ok_before + bad_before
  local is_back = breaker.ramp > 0 and ramp_step(breaker, now) < RAMP_STEPS
  if row >= IN_A_ROW * ask.samples then return true end
  return verdict == "bad" and calls >= (is_back and 1 or ask.samples) and failures >= ask.threshold * calls
end

-- The vendor's limits hold for the candidate from now on, and what it counted beyond ours was sent by others.
local function learn(name, breaker)
  redis.call("HSET", breaker.key, "learned_requests", ask.learned_requests, "learned_tokens", ask.learned_tokens,
    "learned_until", now + ask.learned_ms)
  local root = generation_root()
  if not root then return end
  local window = open_window(root .. "window:" .. name, now, ask.span)
  count_others(window, math.max(0, ask.used_requests - window.requests), 0, ask.requests_free_ms)
  count_others(window, 0, math.max(0, ask.used_tokens - window.tokens), ask.tokens_free_ms)
  save_window(window)
end

local function judge_closed(name, breaker, verdict)
  if verdict == "open" then return trip(name, breaker, verdict) end
  if (verdict == "good" or verdict == "bad") and is_too_bad(breaker, verdict) then trip(name, breaker, verdict) end
end

-- Before the rest of a key is over a check has a say in this alone: it was made with another key, or with one that was
-- refused its list and is given it now. That a list is given says nothing of a key that never was refused one.
local function check_locked(name, breaker, verdict)
  local is_other = ask.key ~= breaker.locked_key
  if verdict == "open" and is_other then
    trip(name, breaker, verdict)
  elseif verdict == "open" and not ask.again then
    redis.call("HSET", breaker.key, "unlisted", 1)
  elseif verdict == "good" and (is_other or breaker.is_unlisted) then
    close(name, breaker)
  end
end

-- Only the probe has a say, or a check once the rest is over.
local function judge_open(name, breaker, verdict)
  if ask.attempt ~= "" and breaker.probe ~= ask.attempt then return end
  if ask.attempt == "" and breaker.until_ms > now then
    if breaker.lock then check_locked(name, breaker, verdict) end
  elseif verdict == "good" then
    close(name, breaker)
  elseif verdict == "bad" or verdict == "open" then
    trip(name, breaker, verdict)
  else
    redis.call("HDEL", breaker.key, "probe", "probe_until")
  end
end

local seen = generations_seen()
for place, name in ipairs({ask.provider, ask.candidate}) do
  local breaker = read_breaker(name)
  -- a key that is refused says nothing about one of its models
  local verdict = ask.verdict
  if place == 2 and verdict == "open" then verdict = "none" end
  if not seen or seen[place] == breaker.generation then
    if breaker.is_open then judge_open(name, breaker, verdict) else judge_closed(name, breaker, verdict) end
  end
  local cool_ms = verdict == "cool" and ask.rest_ms or ask.cool_ms
  if place == 2 and cool_ms > 0 and now + cool_ms > breaker.cool then
    redis.call("HSET", breaker.key, "cool", now + cool_ms)
    note(breaker, name, "cooled", now + cool_ms)
  end
  if place == 2 and (ask.learned_requests > 0 or ask.learned_tokens > 0) then
    learn(name, breaker)
  end
  if place == 1 then
    redis.call("HSET", breaker.key, "heard", now)
    if verdict == "good" and ask.attempt ~= "" then redis.call("HSET", breaker.key, "worked", now) end
  end
  redis.call("PEXPIRE", breaker.key, MEMORY_OF_BREAKERS)
end
local answer = {}
for _, change in ipairs(changes) do
  answer[#answer + 1] = change[1]
  answer[#answer + 1] = change[2]
  answer[#answer + 1] = kept_state(change[1], change[3])
end
return answer
