-- Whether Redis keeps what stands under a key for longer than `keep` ms from now; a key without expiry it always does.
local function outlives(key, keep)
  local at = redis.call('PEXPIRETIME', key)
  return at == -1 or at > now + keep
end
