-- KEYS: the key. ARGV: token, version, age ms, the record with an empty head, retain ms.
-- Answers stored, old, marked or foreign.

local key, token, version, record = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local retain = tonumber(ARGV[5])
local slot, state, high, low, holder, deadline, created = look(key)
if slot == 'foreign' then
  return answer('foreign')
end
local new_high, new_low = struct.unpack('>I4I4', version)
if slot == 'held' and state == 'Q' and deadline > now then
  if reaches(high, low, new_high, new_low) then
    new_high, new_low = high, low
  end
  local stay = now + math.max(retain, 1)
  redis.call('SETRANGE', key, 0, head('Q', new_high, new_low, holder, deadline, created))
  if expiry(key) < stay then
    redis.call('PEXPIREAT', key, string.format('%.0f', stay))
  end
  return answer('marked')
end
if slot ~= 'absent' then
  -- A value must be beaten; a floor need only be reached.
  local beaten = reaches(new_high, new_low, high, low)
  if slot == 'newer' or has_value(state) then
    beaten = not reaches(high, low, new_high, new_low)
  end
  if not beaten then
    return answer('old')
  end
end
store_value(key, token, version, tonumber(ARGV[3]), record, retain)
return answer('stored')
