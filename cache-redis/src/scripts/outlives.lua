-- Whether Redis keeps what stands under a key for longer than `keep` ms from now; a key without expiry it always does.
local function outlives(key, keep)
  local left = redis.call('PTTL', key)
  return left == -1 or left > tonumber(keep)
end
