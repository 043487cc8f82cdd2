-- Fold the end of a call into what the fleet knows of its candidate.
-- KEYS[1] prefix; the hash of measures is prefix:health
--   (field candidate -> "ttft_ms success tokens_per_s samples seen_s slow_ttft_ms ttfts slow_silence_ms silences
--   counted counts slow_connect_ms connects slow_token_ms tokens"; slow_ and counted: what some 19 of 20 calls keep
--   within; ttfts, silences, counts, connects, tokens: how many it is taken from)
-- ARGV[1] JSON: candidate; ok: 1 | 0 (absent: says nothing about success); weight of the newest sample, 0..1;
--   believed_s: seconds after which a success rate is not believed any more; and what was measured, if it was:
--   ttft_ms; speed (tokens per second); slow_connect_ms, slow_ttft_ms, slow_silence_ms, the longest, and slow_token_ms,
--   for each token behind the first: of a call that was cut they are what it was given, and it would have taken longer;
--   counted: input tokens as the vendor counts them, per thousand estimated
local FIRST = 10 -- samples whose largest begins a percentile
local UP, DOWN = 1.285, 0.985 -- at rest when one sample in twenty lies above
local seen_call = cjson.decode(ARGV[1])
local measures = KEYS[1] .. ":health"
local old = redis.call("HGET", measures, seen_call.candidate) or ""
local known = {}
for word in string.gmatch(old, "%S+") do known[#known + 1] = word end
local ttft, speed = tonumber(known[1]), tonumber(known[3])
local success, samples, seen = tonumber(known[2]) or 1, tonumber(known[4]) or 0, tonumber(known[5]) or 0
local now = math.floor(now_ms() / 1000)

local function fold(before, new)
  if not new or not before then return new or before end
  return before + seen_call.weight * (new - before)
end

local function climb(before, count, new)
  before, count = tonumber(before), tonumber(count) or 0
  if not new then return before, count end
  if count < FIRST then return math.max(before or 1, new), count + 1 end
  return math.max(1, before * (new > before and UP or DOWN)), count + 1
end

if seen_call.ok then
  if now - seen >= seen_call.believed_s then success, samples = 1, 0 end
  samples, seen = samples + 1, now
  -- the first samples weigh as their mean, so that one early failure is not half the truth
  local share = math.max(seen_call.weight, 1 / (samples + 1))
  success = success + share * (seen_call.ok - success)
end
local counted, counts = climb(known[10], known[11], seen_call.counted)
local function text(value) return value and string.format("%.4f", value) or "-" end
local slow_ttft, ttfts = climb(known[6], known[7], seen_call.slow_ttft_ms)
local slow_silence, silences = climb(known[8], known[9], seen_call.slow_silence_ms)
local slow_connect, connects = climb(known[12], known[13], seen_call.slow_connect_ms)
local slow_token, tokens = climb(known[14], known[15], seen_call.slow_token_ms)
redis.call("HSET", measures, seen_call.candidate, table.concat({
  text(fold(ttft, seen_call.ttft_ms)), text(success), text(fold(speed, seen_call.speed)), samples, seen,
  text(slow_ttft), ttfts, text(slow_silence), silences, text(counted), counts,
  text(slow_connect), connects, text(slow_token), tokens,
}, " "))
