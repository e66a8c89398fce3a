-- KEYS: the key. ARGV: its echo.
-- Answers value (ms left of the soft, hard and last life, six bytes each), none or foreign.

local key = KEYS[1]
local found, _, _, soft, hard, last = lives(key, ARGV[1])
if found ~= 'value' then
  return seconds .. ' ' .. micros .. ' ' .. found
end
-- Redis may forget it sooner than its last life ends: a touch.
local forgotten = expiry(key)
local function left(life)
  return math.min(math.max(math.min(life, forgotten) - now, 0), 281474976710655)
end
return seconds .. ' ' .. micros .. ' value ' .. struct.pack('>I6I6I6', left(soft), left(hard), left(last))
