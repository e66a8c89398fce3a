-- KEYS: the key. ARGV: token, version, age ms, the record with an empty head.
-- Answers stored, lost or old.

local key, token, version, record = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local slot, state, high, low, holder = look(key)
if slot ~= 'held' or (state ~= 'L' and state ~= 'S') or holder ~= token then
  return answer('lost')
end
local new_high, new_low = struct.unpack('>I4I4', version)
if not reaches(new_high, new_low, high, low) then
  return answer('old')
end
-- A floor is remembered for as long as the record it came from would have stayed.
local retain = (high > 0 or low > 0) and expiry(key) - now or 0
store_value(key, token, version, tonumber(ARGV[3]), record, retain)
return answer('stored')
