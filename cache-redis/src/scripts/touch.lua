-- KEYS: the key. ARGV: its echo, and in decimal for how many ms Redis shall keep it, at least 1.
-- Answers kept (ms), none or foreign.
--
-- Moves only the moment at which Redis forgets the record, and never past its last life: no byte of the record changes, so what
-- a reader takes for its age, and every bound that rests on that, stays. Where the version must outlive the value (it is the
-- floor that holds off an older row), or a refresh is under way, the moment is not brought forward either.

local key = KEYS[1]
local found, state, versioned, _, _, last = lives(key, ARGV[1])
if found ~= 'value' then
  return seconds .. ' ' .. micros .. ' ' .. found
end
local before = expiry(key)
local after = math.min(now + ARGV[2], last)
if versioned or state == 'S' then
  after = math.max(after, before)
end
if after ~= before then
  redis.call('PEXPIREAT', key, string.format('%d', after))
end
return seconds .. ' ' .. micros .. string.format(' kept %d', math.min(after, last) - now)
