-- KEYS: the key. ARGV: the mark's token c16, its life ms I6, the key's echo c16, and behind them in decimal for how many ms Redis shall keep
-- the record.
-- Answers marked, full or foreign.

local key, asked = KEYS[1], ARGV[1]
local token, life, echo = struct.unpack('>c16I6c16', asked)
local keep = string.sub(asked, 39)
local deadline = math.min(now + life, 281474976710655)
local floor, marks, count, last = UNVERSIONED, '', 0, 0
local condition, lasting = 'NX', false
local header = read(key)
if header ~= '' then
  condition = 'XX'
  local slot = kind(header)
  if slot == 'foreign' then
    return seconds .. ' ' .. micros .. ' foreign'
  end
  local state
  state, floor = struct.unpack('>xc1xxxxc8', header)
  if slot == 'held' and state ~= 'V' and state ~= 'S' then
    -- A floor stays for as long as it would have.
    lasting = outlives(key, keep)
    if state == 'Q' then
      marks, count, last = open_marks(key, token)
    end
  end
end
if count >= 64 then
  return seconds .. ' ' .. micros .. ' full'
end
local record = marked(floor, math.max(last, deadline), count + 1, echo, marks .. token .. struct.pack('>I6', deadline))
local stored
if lasting then
  stored = redis.call('SET', key, record, 'KEEPTTL')
else
  stored = redis.call('SET', key, record, 'PX', keep, condition)
end
-- If it is not stored, it is not absent, but an empty string.
return seconds .. ' ' .. micros .. (stored and ' marked' or ' foreign')
