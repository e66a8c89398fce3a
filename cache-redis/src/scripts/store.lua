-- Writes whole records. `%.0f`, because a large Lua number may be sent as 1.8e+12.

local function store(key, record, expires)
  if expires == math.huge then
    redis.call('SET', key, record)
  else
    redis.call('SET', key, record, 'PXAT', string.format('%.0f', expires))
  end
end

-- A value: created when its load began, and kept for its last life, but for `retain` at least. The record comes with an empty
-- head, which is patched in place: to join the two here would copy the payload once more.
local function store_value(key, token, version, age, record, retain)
  local high, low = struct.unpack('>I4I4', version)
  local last = struct.unpack('>I6', record, 63)
  local created = math.max(now - age, 0)
  store(key, record, math.max(created + last, now + math.max(retain, 1)))
  redis.call('SETRANGE', key, 0, head('V', high, low, token, 0, created))
end
