-- KEYS: the key. ARGV: see value.lua.
-- Answers stored, old, marked or foreign.

local key = KEYS[1]
local age, sum, version, token, retain = struct.unpack('>I6I4c8c16I6', ARGV[1])
local floored, condition = false, 'NX'
local header = read(key)
if header ~= '' then
  condition = 'XX'
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
  -- A value must be beaten; a floor need only be reached.
  local beaten
  if slot == 'newer' or state == 'V' or state == 'S' then
    beaten = not reaches(floor, version)
  else
    beaten = reaches(version, floor)
  end
  if not beaten then
    return seconds .. ' ' .. micros .. ' old'
  end
end
