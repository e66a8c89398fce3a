-- Incarnation and sequence, eight bytes each, stand before each message and under the partition's meta key, there with the server's history c8 behind
-- them.

-- Before a message that has no sequence, for want of memory.
local NO_STAMP = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

-- The next stamp, or why there is none, a table. `before` is what the meta key has. If that is of another history, it is another server's, whose
-- sequences are none of this one's. `fresh` begins with an incarnation for the case that there is none.
local function next_stamp(meta, before, history, fresh)
  if before and #before == 24 and string.find(before, history, 17, true) then
    local incarnation, sequence = struct.unpack('>c8I8', before)
    -- Beyond 2^53 one more is the same number: no sequence has come so far, it is damaged, and who counts on it would miss what is told from then on.
    if sequence < 9007199254740992 then
      return struct.pack('>c8I8', incarnation, sequence + 1)
    end
  end
  -- What is no string seems to be nothing to MGET.
  local foreign = redis.pcall('GET', meta)
  if type(foreign) == 'table' then
    return foreign
  end
  if before and #before ~= 24 then
    return redis.error_reply('WRONGTYPE the meta key holds something foreign')
  end
  return string.sub(fresh, 1, 8) .. '\0\0\0\0\0\0\0\1'
end

-- Stores what MSET is given. Without memory for it no sequence is taken, and whoever counts on these incarnations must not go on to: without
-- them, the next script begins others.
local function stored(values)
  local refused = redis.pcall('MSET', unpack(values)).err
  if not refused then
    return true
  end
  if not string.find(refused, '^%-?OOM') then
    redis.call('MSET', unpack(values)) -- raises it
  end
  for i = 1, #values, 2 do
    redis.call('DEL', values[i])
  end
  return false
end
