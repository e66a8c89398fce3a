-- Begins an acquire: leases a key that is absent.
--
-- KEYS: the key. ARGV: claim c1 (v, s or f), lease ms I6, token c16, the body of a lease c50, and behind it in decimal for how many ms
-- Redis shall keep the lease.
-- Answers granted (the floor), hit, busy (ms left), newer or foreign.

local key, asked = KEYS[1], ARGV[1]
local claim, lease, token, body = struct.unpack('>c1I6c16c50', asked)
-- `PX` counts from Redis' own look at its clock, which may be some ms off `now`. When a lease ends is told by its deadline, not by this.
local keep = string.sub(asked, 74)
local deadline = now + lease
if deadline > 281474976710655 then
  deadline = 281474976710655
end
local header = read(key)
if header == '' then
  -- See head.lua: 532 is seven times an L, and without a version nothing passes 2^53.
  local check = math.fmod(532 + deadline * 31, 4294967291)
  local record = struct.pack('>c2I4c8c16I6I6c50', '\193L', check, UNVERSIONED, token, deadline, 0, body)
  if redis.call('SET', key, record, 'PX', keep, 'NX') then
    return seconds .. ' ' .. micros .. ' granted ' .. UNVERSIONED
  end
  return seconds .. ' ' .. micros .. ' foreign' -- it is not absent, but an empty string
end
