-- KEYS: the counter. ARGV: by how much, ttl ms.
-- Answers counted (the sum), full or foreign. The sum goes as Redis' own text: a Lua number has only 53 bits.

local key, by, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local sum = redis.pcall('INCRBY', key, by)
if type(sum) == 'table' then
  if string.find(sum.err, 'overflow', 1, true) then
    return answer('full')
  end
  if string.find(sum.err, 'WRONGTYPE', 1, true) or string.find(sum.err, 'not an integer', 1, true) then
    return answer('foreign')
  end
  return sum -- raises it
end
-- Only where there is none: the first increment's, and a counter that somebody has made everlasting.
redis.call('PEXPIREAT', key, string.format('%.0f', now + math.max(ttl, 1)), 'NX')
return answer('counted', redis.call('GET', key))
