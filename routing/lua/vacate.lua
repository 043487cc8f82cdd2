-- The ledger has not heard of an admitted call for long: its slot, and its turn as the probe, go to others. What it has
-- of the windows and the budgets stays its own, as the call may be made yet.
-- KEYS[1] prefix
-- ARGV[1] JSON: attempt
-- RETURNS {"rebuilding" | "vacated" | "unknown" (it has neither, or was settled)}
local root = generation_root()
if not root then return {"rebuilding"} end
local attempt = cjson.decode(ARGV[1]).attempt
local held = redis.call("GET", root .. "hold:" .. attempt)
if not held or is_settled(held) then return {"unknown"} end
local record = cjson.decode(held)
local had_slot = redis.call("ZREM", root .. "slots:" .. record.provider, attempt) == 1
local was_probe = end_probe(attempt, record)
return {(had_slot or was_probe) and "vacated" or "unknown"}
