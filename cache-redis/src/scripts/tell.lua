-- Takes the next sequence of a partition and publishes a message with it, in one step with what the script has done. Returns what stands before the
-- message, or why it cannot be told, a table. The server's history is the last of ARGV, c8.
--
-- `asked`: an incarnation for the case that there is none c8, how to publish c1 (S if the channel is one of a cluster, else P), channel and message, each
-- behind its length I4.
local function tell(meta, asked)
  local history = ARGV[#ARGV]
  local stamp = next_stamp(meta, redis.call('MGET', meta)[1], history, asked)
  if type(stamp) == 'table' then
    return stamp
  end
  if not stored({ meta, stamp .. history }) then
    stamp = NO_STAMP
  end
  local how, channel, message = struct.unpack('>xxxxxxxxc1I4c0I4c0', asked)
  -- That it is not sent, for want of a permission say, is as if it were lost: the sequence tells of it.
  redis.pcall(how == 'S' and 'SPUBLISH' or 'PUBLISH', channel, stamp .. message)
  return stamp
end
