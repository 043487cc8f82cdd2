-- May an API key submit once more? A rolling minute, noted by the moment; nothing is noted for who is refused.
-- KEYS[1] sorted set of the key's submissions (id -> Unix ms)
-- ARGV[1] limit per minute   ARGV[2] id of this submission: asked again for it, the answer is yes and counts once
-- RETURNS 0 when it may, else the ms until it may
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - 60000)
if redis.call("ZSCORE", KEYS[1], ARGV[2]) then return 0 end
local limit = tonumber(ARGV[1])
local count = redis.call("ZCARD", KEYS[1])
if count >= limit then
  local oldest = redis.call("ZRANGE", KEYS[1], count - limit, count - limit, "WITHSCORES")[2]
  return math.max(1, tonumber(oldest) + 60000 - now)
end
redis.call("ZADD", KEYS[1], now, ARGV[2])
redis.call("PEXPIRE", KEYS[1], 60000)
return 0
