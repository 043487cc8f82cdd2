-- Fold the end of a call into what the fleet knows of its candidate.
-- KEYS[1] hash of measures (field candidate -> "ttft_ms success tokens_per_s samples")
-- KEYS[2] hash of rests    (field provider or candidate -> "until_ms reason"); one that lasts longer is kept
-- ARGV[1] candidate  ARGV[2] provider  ARGV[3] ok 1|0|-1 (-1: says nothing about success)
-- ARGV[4] ttft in ms or ""  ARGV[5] tokens per second or ""  ARGV[6] weight of the newest sample, 0..1
-- ARGV[7] failure rate that opens the breaker, 0..1   ARGV[8] calls it needs to be sure   ARGV[9] rest in ms after that
-- ARGV[10] rest at once in ms ("" = none)  ARGV[11] whom it concerns: a provider or a candidate  ARGV[12] reason
-- RETURNS 1 when a rest is imposed, else 0
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call("HGET", KEYS[1], ARGV[1])
local ttft, success, speed, samples = "", 1, "", 0
if old then
  ttft, success, speed, samples = string.match(old, "^(%S+) (%S+) (%S+) (%S+)$")
  success, samples = tonumber(success), tonumber(samples)
end
local weight = tonumber(ARGV[6])
local function fold(before, new)
  if new == "" then return before end
  before = tonumber(before)
  if before == nil then return tonumber(new) end
  return before + weight * (tonumber(new) - before)
end
if ARGV[3] ~= "-1" then
  samples = samples + 1
  -- the first samples weigh as their mean, so that one early failure is not half the truth
  local share = math.max(weight, 1 / (samples + 1))
  success = success + share * (tonumber(ARGV[3]) - success)
end
ttft, speed = fold(ttft, ARGV[4]), fold(speed, ARGV[5])
local function text(value) if value == "" or value == "-" then return "-" end return string.format("%.4f", value) end
redis.call("HSET", KEYS[1], ARGV[1], text(ttft) .. " " .. text(success) .. " " .. text(speed) .. " " .. samples)
local function rest(who, ms)
  local known = redis.call("HGET", KEYS[2], who)
  if not known or tonumber(string.match(known, "^%d+")) < now + ms then
    redis.call("HSET", KEYS[2], who, now + ms .. " " .. ARGV[12])
  end
  return 1
end
if ARGV[10] ~= "" then return rest(ARGV[11], tonumber(ARGV[10])) end
if ARGV[3] == "0" and samples >= tonumber(ARGV[8]) and 1 - success >= tonumber(ARGV[7]) then
  return rest(ARGV[1], tonumber(ARGV[9]))
end
return 0
