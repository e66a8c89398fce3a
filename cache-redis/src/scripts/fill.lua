-- KEYS: any keys. ARGV, two a key: the record as it shall stand there, and in decimal when its last life ends, in ms of Redis' time, at least 1.
-- Answers stored, lost or old, without the time: none is needed here, for the record was stamped with what the acquire told.

local function one(i)
  local key, record, ends = KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]
  local header = read(key)
  if #header < 92 then
    return 'lost'
  end
  local begin, floor, holder = struct.unpack('>c2xxxxc8c16', header)
  if (begin ~= '\193L' and begin ~= '\193S') or holder ~= string.sub(record, 15, 30) then
    return 'lost'
  end
  if floor ~= '\0\0\0\0\0\0\0\0' then
    -- See reaches.lua.
    local high, low = struct.unpack('>I4I4', floor)
    local new_high, new_low = struct.unpack('>I4I4', record, 7)
    if new_high < high or (new_high == high and new_low < low) then
      return 'old'
    end
    -- A floor is remembered for as long as the record it came from would have stayed.
    local at = redis.call('PEXPIRETIME', key)
    if at == -1 or at > tonumber(ends) then
      redis.call('SET', key, record, 'KEEPTTL')
      return 'stored'
    end
  end
  redis.call('SET', key, record, 'PXAT', ends)
  return 'stored'
end
