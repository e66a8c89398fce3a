-- KEYS: the key. ARGV: its echo, keep ms.
-- Answers kept (ms), none or foreign.
--
-- Moves only the moment at which Redis forgets the record, and never past its last life: no byte of the record changes, so what
-- a reader takes for its age, and every bound that rests on that, stays. Where the version must outlive the value (it is the
-- floor that holds off an older row), or a refresh is under way, the moment is not brought forward either.

local key = KEYS[1]
local found, state, versioned, _, _, last = lives(key, ARGV[1])
if found ~= 'value' then
  return answer(found)
end
local before = expiry(key)
local after = math.min(now + math.max(tonumber(ARGV[2]), 1), last)
if versioned or state == 'S' then
  after = math.max(after, before)
end
if after ~= before then
  redis.call('PEXPIREAT', key, string.format('%.0f', after))
end
return answer('kept', string.format('%.0f', math.min(after, last) - now))
