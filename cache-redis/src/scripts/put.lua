-- KEYS: the key. ARGV: see value.lua.
-- Answers stored, vacant, old, marked or foreign. Vacant: there is no value to replace, and nothing is done; the caller invalidates the key.

local key = KEYS[1]
local age, sum, version, token, retain = struct.unpack('>I6I4c8c16I6', ARGV[1])
local condition = 'XX'
local header = read(key)
if header == '' then
  return seconds .. ' ' .. micros .. ' vacant'
end
local slot = kind(header)
if slot == 'foreign' then
  return seconds .. ' ' .. micros .. ' foreign'
end
local state, floor, holder, deadline, created = struct.unpack('>xc1xxxxc8c16I6I6', header)
if slot == 'held' and state == 'Q' and deadline > now then
  if reaches(floor, version) then
    version = floor
  end
  redis.call('SETRANGE', key, '0', head('Q', version, holder, deadline, created))
  if not outlives(key, retain) then
    redis.call('PEXPIRE', key, string.format('%d', retain))
  end
  return seconds .. ' ' .. micros .. ' marked'
end
local has_value = slot == 'held' and (state == 'V' or state == 'S')
if (has_value or slot == 'newer') and reaches(floor, version) then
  return seconds .. ' ' .. micros .. ' old'
end
if not has_value then
  return seconds .. ' ' .. micros .. ' vacant'
end
