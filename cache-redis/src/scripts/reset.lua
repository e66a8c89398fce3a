-- KEYS: the counter.
-- Answers counted (what it stood at), absent or foreign.

local key = KEYS[1]
local count = redis.pcall('GET', key)
if type(count) == 'table' then
  if string.find(count.err, 'WRONGTYPE', 1, true) then
    return seconds .. ' ' .. micros .. ' foreign'
  end
  return count -- raises it
end
if not count then
  return seconds .. ' ' .. micros .. ' absent'
end
if not string.find(count, '^%-?%d+$') then
  return seconds .. ' ' .. micros .. ' foreign'
end
redis.call('UNLINK', key)
return seconds .. ' ' .. micros .. ' counted ' .. count
