-- When Redis forgets a key; one without expiry it never does. Not by PTTL, which counts from a clock that Redis has read before `now`, and
-- would let an expiry that is carried on wander.
local function expiry(key)
  local at = redis.call('PEXPIRETIME', key)
  return at < 0 and math.huge or at
end

-- What a reader finds under a key: 'value', 'none' or 'foreign'; of a value also its state, whether it has a version, and when its
-- three lives end. The payload is not read, nor its CRC; the head is checked, since the times come from it.
local function lives(key, echo)
  local header = read(key)
  if header == '' then
    return redis.call('EXISTS', key) == 1 and 'foreign' or 'none'
  end
  local slot = kind(header)
  if slot ~= 'held' then
    return slot == 'foreign' and slot or 'none'
  end
  local state, version, token, deadline, created, soft, hard, last, its_echo = struct.unpack('>xc1xxxxc8c16I6I6xxxxxxxxI6I6I6xxxxc16', header)
  if (state ~= 'V' and state ~= 'S') or its_echo ~= echo then
    return 'none'
  end
  if head(state, version, token, deadline, created) ~= string.sub(header, 1, 42) then
    return 'none'
  end
  if created + last <= now then
    return 'none'
  end
  return 'value', state, version ~= UNVERSIONED, created + soft, created + hard, created + last
end
