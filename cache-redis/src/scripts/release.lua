-- KEYS: the key. ARGV: token.
-- Answers released or lost.

local key, token = KEYS[1], ARGV[1]
local slot, state, high, low, holder, _, created = look(key)
if slot ~= 'held' or (state ~= 'L' and state ~= 'S') or holder ~= token then
  return answer('lost')
end
if state == 'S' then
  redis.call('SETRANGE', key, 0, head('V', high, low, token, 0, created))
elseif high == 0 and low == 0 then
  redis.call('DEL', key)
else
  redis.call('SETRANGE', key, 0, head('T', high, low, NO_TOKEN, 0, created))
end
return answer('released')
