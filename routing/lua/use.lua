-- Take a loaded generation into use, unless Redis lost it on the way.
-- KEYS[1] prefix
-- ARGV[1] JSON: generation; server (the name of this start of Redis)
-- RETURNS {"used" | "lost"}
local ask = cjson.decode(ARGV[1])
if redis.call("DEL", KEYS[1] .. ":counters:" .. ask.generation .. ":loading") == 0 then return {"lost"} end
redis.call("MSET", KEYS[1] .. ":server", ask.server, KEYS[1] .. ":generation", ask.generation)
return {"used"}
