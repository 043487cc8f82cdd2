-- Counters live under the generation that they were rebuilt for; all else under KEYS[1] alone.
-- RETURNS the root of the current generation's keys and the generation, or nil while there is none.
local function generation_root()
  local generation = redis.call("GET", KEYS[1] .. ":generation")
  if not generation then return nil end
  return KEYS[1] .. ":counters:" .. generation .. ":", generation
end

-- A whole number as text: Lua's own conversion keeps 14 digits only.
local function whole(number)
  return string.format("%.0f", number)
end
