-- Fold the end of a call into what the fleet knows of its candidate.
-- KEYS[1] hash of measures
--   (field candidate -> "ttft_ms success tokens_per_s samples seen_s slow_ttft_ms ttfts slow_silence_ms silences";
--   slow_: what some 19 of 20 calls keep within; ttfts, silences: how many it is taken from)
-- ARGV[1] candidate   ARGV[2] ok 1|0|-1 (-1: says nothing about success)
-- ARGV[3] ttft in ms or ""   ARGV[4] tokens per second or ""   ARGV[5] weight of the newest sample, 0..1
-- ARGV[6] time to the first token in ms or ""   ARGV[7] longest silence in ms or "": for the slow ones; of a call that
--   was cut they are what it was given, and it would have taken longer
-- ARGV[8] seconds after which a success rate is not believed any more
local FIRST = 10 -- samples whose largest begins a percentile
local UP, DOWN = 1.285, 0.985 -- at rest when one sample in twenty lies above
local old = redis.call("HGET", KEYS[1], ARGV[1]) or ""
local known = {}
for word in string.gmatch(old, "%S+") do known[#known + 1] = word end
local ttft, speed = tonumber(known[1]), tonumber(known[3])
local success, samples, seen = tonumber(known[2]) or 1, tonumber(known[4]) or 0, tonumber(known[5]) or 0
local now = tonumber(redis.call("TIME")[1])
local weight = tonumber(ARGV[5])

local function fold(before, new)
  new = tonumber(new)
  if not new or not before then return new or before end
  return before + weight * (new - before)
end

local function climb(before, count, new)
  new = tonumber(new)
  before, count = tonumber(before), tonumber(count) or 0
  if not new then return before, count end
  if count < FIRST then return math.max(before or 1, new), count + 1 end
  return math.max(1, before * (new > before and UP or DOWN)), count + 1
end

if ARGV[2] ~= "-1" then
  if now - seen >= tonumber(ARGV[8]) then success, samples = 1, 0 end
  samples, seen = samples + 1, now
  -- the first samples weigh as their mean, so that one early failure is not half the truth
  local share = math.max(weight, 1 / (samples + 1))
  success = success + share * (tonumber(ARGV[2]) - success)
end
local function text(value) return value and string.format("%.4f", value) or "-" end
local slow_ttft, ttfts = climb(known[6], known[7], ARGV[6])
local slow_silence, silences = climb(known[8], known[9], ARGV[7])
redis.call("HSET", KEYS[1], ARGV[1], table.concat({
  text(fold(ttft, ARGV[3])), text(success), text(fold(speed, ARGV[4])), samples, seen,
  text(slow_ttft), ttfts, text(slow_silence), silences,
}, " "))
