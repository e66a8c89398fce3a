-- The header of what stands under a key: empty if nothing or nothing in it, and one character for what is no string: as foreign as any
-- string so short.
local function read(key)
  local header = redis.pcall('GETRANGE', key, '0', '91')
  if type(header) == 'string' then
    return header
  end
  if not string.find(header.err, 'WRONGTYPE', 1, true) then
    redis.call('GETRANGE', key, '0', '0') -- raises it
  end
  return '-'
end
