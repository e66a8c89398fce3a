-- KEYS: the key. ARGV: token.
-- Answers released or lost.

local key = KEYS[1]
local header = read(key)
if #header < 92 then
  return seconds .. ' ' .. micros .. ' lost'
end
local begin, floor, holder, created = struct.unpack('>c2xxxxc8c16xxxxxxI6', header)
if (begin ~= '\193L' and begin ~= '\193S') or holder ~= ARGV[1] then
  return seconds .. ' ' .. micros .. ' lost'
end
if begin == '\193S' then
  redis.call('SETRANGE', key, '0', head('V', floor, holder, 0, created))
elseif floor == UNVERSIONED then
  redis.call('DEL', key)
else
  redis.call('SETRANGE', key, '0', head('T', floor, string.rep('\0', 16), 0, created))
end
return seconds .. ' ' .. micros .. ' released'
