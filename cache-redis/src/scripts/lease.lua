-- Begins an acquire: leases a key that is absent, as most misses find it. The function ends in acquire.lua.
--
-- KEYS: any keys. ARGV, one a key: in decimal, ended by a zero byte, for how many ms Redis shall keep the lease, claim c1 (v, s or f),
-- lease ms I6, token c16, the body of a lease c50.
-- Answers granted (the floor), hit, busy (ms left), newer or foreign.

local function one(i)
  local key = KEYS[i]
  -- `PX` counts from Redis' own look at its clock, which may be some ms off `now`. When a lease ends is told by its deadline, not by this.
  local keep, claim, lease, token, body = struct.unpack('>sc1I6c16c50', ARGV[i])
  local deadline = now + lease
  if deadline > 281474976710655 then
    deadline = 281474976710655
  end
  -- Who has just found nothing need not look again: where something has come since, it is not set. Others mostly find something.
  local header, refusal = '', nil
  if claim ~= 'v' then
    header = read(key)
  end
  if header == '' then
    -- See head.lua: 532 is seven times an L, and without a version nothing passes 2^53.
    local check = math.fmod(532 + deadline * 31, 4294967291)
    local record = struct.pack('>c2I4c8c16I6I6c50', '\193L', check, UNVERSIONED, token, deadline, 0, body)
    local set = redis.pcall('SET', key, record, 'PX', keep, 'NX')
    if set and set.ok then
      return seconds .. ' ' .. micros .. ' granted ' .. UNVERSIONED
    end
    -- Where Redis takes no write, what stands there may still be an answer.
    header, refusal = read(key), set
  end
