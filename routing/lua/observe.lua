-- Fold the end of a call into what the fleet knows of its candidate.
-- KEYS[1] hash of measures (field candidate -> "ttft_ms success tokens_per_s samples")
-- ARGV[1] candidate   ARGV[2] ok 1|0|-1 (-1: says nothing about success)
-- ARGV[3] ttft in ms or ""   ARGV[4] tokens per second or ""   ARGV[5] weight of the newest sample, 0..1
local old = redis.call("HGET", KEYS[1], ARGV[1])
local ttft, success, speed, samples = "", 1, "", 0
if old then
  ttft, success, speed, samples = string.match(old, "^(%S+) (%S+) (%S+) (%S+)$")
  success, samples = tonumber(success), tonumber(samples)
end
local weight = tonumber(ARGV[5])
local function fold(before, new)
  if new == "" then return before end
  before = tonumber(before)
  if before == nil then return tonumber(new) end
  return before + weight * (tonumber(new) - before)
end
if ARGV[2] ~= "-1" then
  samples = samples + 1
  -- the first samples weigh as their mean, so that one early failure is not half the truth
  local share = math.max(weight, 1 / (samples + 1))
  success = success + share * (tonumber(ARGV[2]) - success)
end
ttft, speed = fold(ttft, ARGV[3]), fold(speed, ARGV[4])
local function text(value) if value == "" or value == "-" then return "-" end return string.format("%.4f", value) end
redis.call("HSET", KEYS[1], ARGV[1], text(ttft) .. " " .. text(success) .. " " .. text(speed) .. " " .. samples)
