-- Counters live under the generation that they were rebuilt for; all else under KEYS[1] alone. They are believed on the
-- start of Redis alone that they were loaded into: this text names the one that it was loaded into itself, and no
-- script outlives a restart.
local SERVER = "@SERVER@"

-- RETURNS the root of the current generation's keys and the generation, or nil while there is none.
local function generation_root()
  local known = redis.call("MGET", KEYS[1] .. ":generation", KEYS[1] .. ":server")
  if not known[1] or known[2] ~= SERVER then return nil end
  return KEYS[1] .. ":counters:" .. known[1] .. ":", known[1]
end

-- A whole number as text: Lua's own conversion keeps 14 digits only.
local function whole(number)
  return string.format("%d", number)
end
