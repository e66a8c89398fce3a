-- What a reader finds under a key: 'value', 'none' or 'foreign'; of a value also its state, whether it has a version, and when its
-- three lives end. The payload is not read, nor its CRC; the head is checked, since the times come from it.
local function lives(key, echo)
  local slot, state, high, low, token, deadline, created, header = look(key)
  if slot == 'foreign' then
    return 'foreign'
  end
  if slot ~= 'held' or not has_value(state) or string.sub(header, 73, 88) ~= echo then
    return 'none'
  end
  if head(state, high, low, token, deadline, created) ~= string.sub(header, 1, 42) then
    return 'none'
  end
  local soft, hard, last = struct.unpack('>I6I6I6', header, 51)
  if created + last <= now then
    return 'none'
  end
  return 'value', state, high > 0 or low > 0, created + soft, created + hard, created + last
end
