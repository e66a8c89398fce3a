-- Invalidations of one time: several calls, each of keys of its own. What Redis refuses of one is an answer too, and keeps no other from its own.
--
-- KEYS: if others are told, of each call a meta key; behind these of each call any keys. ARGV, one a call: how others are told, see tell.lua (if nobody
-- is, nobody reads it); how many keys I2; in decimal, ended by a zero byte, for how many ms a tombstone stays, at least 1; of each key what is known of
-- it c1 and its tombstone c92, see invalidate.lua. Without keys there is one all the same. Behind them all the server's history.
-- Answers what stands before the message if others are told, and a letter a key. Of several calls a list.

local KEYS, ARGV, unpacked, find, try = KEYS, ARGV, struct.unpack, string.find, redis.pcall
local calls, at_key = #ARGV - 1, is_told and #ARGV - 1 or 0

-- First of all the sequences: where one cannot be taken, nothing is done.
local answers, refused = {}, false
if is_told then
  local history, values, latest, width = ARGV[calls + 1], {}, {}, 0
  answers = redis.call('MGET', unpack(KEYS, 1, calls))
  for i = 1, calls do
    local meta = KEYS[i]
    -- Several of one partition have sequences one after the other.
    local stamp = next_stamp(meta, latest[meta] or answers[i], history, ARGV[i])
    if type(stamp) == 'string' then
      local value = stamp .. history
      values[width + 1], values[width + 2], latest[meta] = meta, value, value
      width = width + 2
    end
    answers[i] = stamp
  end
  refused = width > 0 and not stored(values)
end

local function one(key, known, tombstone, stay)
  -- Mostly there is a value without a version, and its echo is known: nothing is left of it.
  if known == 'e' then
    local header = try('GETRANGE', key, '0', '91')
    if #header == 92 and find(header, '^\193[VS]....%z%z%z%z%z%z%z%z') and not try('SET', key, tombstone, 'PX', stay).err then
      return 'T'
    end
  end
  return invalidate(key, known, tombstone, stay)
end

local function rest(asked, at, count, letters, stay)
  letters = { letters }
  for i = 2, count do
    local known, tombstone
    known, tombstone, at = unpacked('>c1c92', asked, at)
    letters[i] = one(KEYS[at_key + i], known, tombstone, stay)
  end
  return table.concat(letters)
end

for i = 1, calls do
  local asked, stamp = ARGV[i], is_told and answers[i] or ''
  local how, channel, message, count, stay, known, tombstone, at = unpacked('>xxxxxxxxc1I4c0I4c0I2sc1c92', asked)
  if type(stamp) == 'string' then
    local done, letters = true, ''
    if count > 0 then
      done, letters = pcall(one, KEYS[at_key + 1], known, tombstone, stay)
      if done and count > 1 then
        done, letters = pcall(rest, asked, at, count, letters, stay)
      end
    end
    if not done then
      -- Redis' own `pcall` makes text of what was raised. Its sequence is as good as lost.
      answers[i] = redis.error_reply(letters)
    elseif is_told then
      if refused then
        stamp = NO_STAMP
      end
      -- That it is not sent, for want of a permission say, is as if it were lost: the sequence tells of it.
      try(how == 'S' and 'SPUBLISH' or 'PUBLISH', channel, stamp .. message)
      answers[i] = stamp .. letters
    else
      answers[i] = letters
    end
  end
  at_key = at_key + count
end
return calls > 1 and answers or answers[1]
