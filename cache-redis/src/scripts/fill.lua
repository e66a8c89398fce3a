-- KEYS: the key. ARGV: see value.lua.
-- Answers stored, lost or old.

local key = KEYS[1]
local age, sum, version, token = struct.unpack('>I6I4c8c16', ARGV[1])
local header = read(key)
if #header < 92 then
  return seconds .. ' ' .. micros .. ' lost'
end
local begin, floor, holder = struct.unpack('>c2xxxxc8c16', header)
if (begin ~= '\193L' and begin ~= '\193S') or holder ~= token then
  return seconds .. ' ' .. micros .. ' lost'
end
-- A floor is remembered for as long as the record it came from would have stayed.
local floored, condition = floor ~= UNVERSIONED, 'XX'
if floored then
  local high, low = struct.unpack('>I4I4', floor)
  local new_high, new_low = struct.unpack('>I4I4', version)
  if new_high < high or (new_high == high and new_low < low) then
    return seconds .. ' ' .. micros .. ' old'
  end
end
