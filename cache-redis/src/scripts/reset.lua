-- KEYS: the counter.
-- Answers counted (what it stood at), absent or foreign.

local key = KEYS[1]
local count = redis.pcall('GET', key)
if type(count) == 'table' then
  if string.find(count.err, 'WRONGTYPE', 1, true) then
    return answer('foreign')
  end
  return count -- raises it
end
if not count then
  return answer('absent')
end
if not string.find(count, '^%-?%d+$') then
  return answer('foreign')
end
redis.call('UNLINK', key)
return answer('counted', count)
