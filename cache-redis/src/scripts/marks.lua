-- The marks of a Q record that have not ended, 22 bytes each, without those of a token; how many there are, and when the last of them ends.
-- What stands behind 64 of them is not looked at.
local function open_marks(key, without)
  local marks = redis.call('GETRANGE', key, '92', '1499')
  local open, count, last = {}, 0, 0
  for at = 1, #marks - 21, 22 do
    local token, deadline = struct.unpack('>c16I6', marks, at)
    if deadline > now and token ~= without then
      count = count + 1
      open[count] = string.sub(marks, at, at + 21)
      last = math.max(last, deadline)
    end
  end
  return table.concat(open), count, last
end

-- The Q record of so many marks, the last of which ends then.
local function marked(floor, last, count, echo, marks)
  local body = struct.pack('>I8I8I8I2I2I2c16I4', 0, 0, 0, 0, count, 0, echo, 0)
  return head('Q', floor, string.rep('\0', 16), last, 0) .. body .. marks
end
