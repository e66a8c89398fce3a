-- Takes the next sequence of a partition and publishes a message with it, in one step with what the script has done. Returns what stands before the
-- message: incarnation and sequence, eight bytes each.
--
-- `meta` is a hash: i incarnation, s sequence, h history. `how`: S if the channel is one of a cluster, else P, c1; an incarnation for the case that there
-- is none c8; the channel; the server's history c8, last. Another history than the one that is written here is another server's: its
-- sequences are none of this one's.
local function tell(meta, message, how)
  local history, incarnation = string.sub(how, -8)
  local known, taken = redis.call('HMGET', meta, 'h', 'i'), 0
  if known[1] == history and known[2] then
    incarnation = known[2]
  else
    incarnation = string.sub(how, 2, 9)
    taken = redis.pcall('HSET', meta, 'h', history, 'i', incarnation, 's', '0')
  end
  if type(taken) == 'number' then
    taken = redis.pcall('HINCRBY', meta, 's', '1')
  end
  local stamp
  if type(taken) == 'number' then
    stamp = incarnation .. struct.pack('>I8', taken)
  elseif string.find(taken.err, '^%-?OOM') then
    -- Without memory no sequence is taken, and whoever counts on this incarnation must not go on to: without it, the next script begins another.
    redis.call('HDEL', meta, 'i')
    stamp = string.rep('\0', 16)
  else
    redis.call('HINCRBY', meta, 's', '1') -- raises it
  end
  -- That it is not sent, for want of a permission say, is as if it were lost: the sequence tells of it.
  redis.pcall(string.byte(how) == 83 and 'SPUBLISH' or 'PUBLISH', string.sub(how, 10, -9), stamp .. message)
  return stamp
end
