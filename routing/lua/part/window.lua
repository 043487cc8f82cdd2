-- What one scope (a provider, or a candidate whose vendor told its limits) sent in the last `span` ms. Changes to the
-- newest bucket are kept in the table until `save_window`.
-- Hash: tail and last (oldest and newest bucket), requests and tokens (sums), r<bucket> and t<bucket>,
-- request_tat and token_tat (when the pace would be even again, ms).
-- A bucket counts until all of it is older than the span, so the sum is never too low. At most span/GRAIN + 2 buckets.
local GRAIN = 250

local function open_window(key, now, span)
  local bucket = math.floor(now / GRAIN)
  local known = redis.call("HMGET", key, "tail", "last", "requests", "tokens", "request_tat", "token_tat",
    "r" .. bucket, "t" .. bucket)
  local window = {
    key = key, now = now, span = span, saved_tail = tonumber(known[1]),
    newest = bucket, newest_requests = tonumber(known[7]) or 0, newest_tokens = tonumber(known[8]) or 0,
    tail = tonumber(known[1]) or bucket, last = tonumber(known[2]) or bucket,
    requests = tonumber(known[3]) or 0, tokens = tonumber(known[4]) or 0,
    request_tat = tonumber(known[5]) or 0, token_tat = tonumber(known[6]) or 0,
  }
  window.bucket = math.max(bucket, window.last)
  local first = math.floor((now - span) / GRAIN)
  if window.tail >= first then return window end
  local left = {}
  for old = window.tail, math.min(first - 1, window.last) do
    left[#left + 1] = "r" .. old
    left[#left + 1] = "t" .. old
  end
  if #left > 0 then
    local counts = redis.call("HMGET", key, unpack(left))
    for place = 1, #counts, 2 do
      window.requests = window.requests - (tonumber(counts[place]) or 0)
      window.tokens = window.tokens - (tonumber(counts[place + 1]) or 0)
    end
    redis.call("HDEL", key, unpack(left))
    -- at once: a candidate may be refused for something else, and then nothing is saved
    redis.call("HSET", key, "tail", first, "requests", window.requests, "tokens", window.tokens)
    window.saved_tail = first
  end
  window.tail = first
  return window
end

local function save_window(window)
  redis.call("HSET", window.key, "requests", window.requests, "tokens", window.tokens,
    "request_tat", window.request_tat, "token_tat", window.token_tat,
    "r" .. window.newest, window.newest_requests, "t" .. window.newest, window.newest_tokens)
  if window.bucket ~= window.last or window.tail ~= window.saved_tail then
    redis.call("HSET", window.key, "tail", window.tail, "last", window.bucket)
    redis.call("PEXPIRE", window.key, 2 * window.span)
  end
end

-- ms until `excess` of what is counted under a letter has left
local function leaves_in(window, letter, excess)
  local fields = {}
  for bucket = window.tail, window.last do fields[#fields + 1] = letter .. bucket end
  local counts = redis.call("HMGET", window.key, unpack(fields))
  for place = 1, #counts do
    excess = excess - (tonumber(counts[place]) or 0)
    if excess <= 0 then return (window.tail + place) * GRAIN + window.span - window.now end
  end
  return window.span
end

-- ms until the pace allows `cost` more of `limit` per span, after a burst of at most `burst` ms
local function paced_in(window, tat, limit, cost, burst)
  local due = cost * window.span / limit
  -- whole ms: a pace cannot be told from one that is even but for the last digits of a moment
  return math.floor(math.max(tat - window.now, 0) - math.max(burst - due, 0))
end

-- RETURNS nothing when there is room, else the reason and the ms to wait (-1: for ever)
local function window_refusal(window, limits, tokens)
  local wait, reason = 0, nil
  local function consider(name, ms)
    if ms > wait then wait, reason = ms, name end
  end
  if limits.rpm > 0 then
    if window.requests + 1 > limits.rpm then
      consider("requests", leaves_in(window, "r", window.requests + 1 - limits.rpm))
    end
    consider("requests", paced_in(window, window.request_tat, limits.rpm, 1, limits.request_burst))
  end
  if limits.tpm > 0 then
    if tokens > limits.tpm then return "too_large", -1 end
    if window.tokens + tokens > limits.tpm then
      consider("tokens", leaves_in(window, "t", window.tokens + tokens - limits.tpm))
    end
    consider("tokens", paced_in(window, window.token_tat, limits.tpm, tokens, limits.token_burst))
  end
  if reason then return reason, math.ceil(wait) end
end

-- Add to a bucket (or take from one that still counts); nothing for one that has left.
local function count(window, bucket, requests, tokens)
  if bucket < window.tail then return end
  if bucket == window.newest then
    window.newest_requests, window.newest_tokens = window.newest_requests + requests, window.newest_tokens + tokens
  else
    if requests ~= 0 then redis.call("HINCRBY", window.key, "r" .. bucket, requests) end
    if tokens ~= 0 then redis.call("HINCRBY", window.key, "t" .. bucket, tokens) end
  end
  window.requests = window.requests + requests
  window.tokens = window.tokens + tokens
end

-- Add what somebody else has sent, so that it leaves in `free` ms: nothing when that has passed.
local function count_others(window, requests, tokens, free)
  if free <= 0 or requests + tokens == 0 then return end
  local bucket = math.floor((window.now + math.min(free, window.span) - window.span) / GRAIN)
  window.tail = math.min(window.tail, bucket)
  count(window, bucket, requests, tokens)
end

local function take_window(window, limits, tokens)
  count(window, window.bucket, 1, tokens)
  if limits.rpm > 0 then
    window.request_tat = math.max(window.request_tat, window.now) + window.span / limits.rpm
  end
  if limits.tpm > 0 then
    window.token_tat = math.max(window.token_tat, window.now) + tokens * window.span / limits.tpm
  end
  save_window(window)
end
