-- KEYS: the counter. ARGV: by how much, and the ttl in ms, at least 1.
-- Answers counted (the sum), full or foreign. The sum goes as Redis' own text: a Lua number has only 53 bits.

local key, by, ttl = KEYS[1], ARGV[1], ARGV[2]
local sum = redis.pcall('INCRBY', key, by)
if type(sum) == 'table' then
  if string.find(sum.err, 'overflow', 1, true) then
    return seconds .. ' ' .. micros .. ' full'
  end
  if string.find(sum.err, 'WRONGTYPE', 1, true) or string.find(sum.err, 'not an integer', 1, true) then
    return seconds .. ' ' .. micros .. ' foreign'
  end
  return sum -- raises it
end
-- Only where there is none: the first increment's, and a counter that somebody has made everlasting.
redis.call('PEXPIRE', key, ttl, 'NX')
return seconds .. ' ' .. micros .. ' counted ' .. redis.call('GET', key)
