-- Ends put: stores the record.
--
-- ARGV: age ms I6, the check of the record if it were made at 0 I4, version c8, token c16, for how many ms a write is remembered I6 (at
-- least 1), whether what follows has room for a head c1 (y or n), and behind it in decimal for how many ms Redis shall keep the record: what
-- its age has left of its last life, or for how long the write is remembered, whichever is more. Then the body with its payload.

local roomy, body = string.sub(ARGV[1], 41, 41) == 'y', ARGV[2]
-- `PX` counts from Redis' own look at its clock, which may be some ms off `now`. Readers go by the record's own times.
local option, keep = 'PX', string.sub(ARGV[1], 42)
local at = keep
local created = now - age
if created < 0 then
  -- Older than this clock can tell: made at 0, so that its last life ends later than `keep` says.
  created = 0
  keep = math.max(keep, struct.unpack('>I6', body, roomy and 63 or 21) - now)
  option, at = 'PXAT', string.format('%d', now + keep)
end
-- See head.lua. Exact as it is until about the year 4200.
local check = math.fmod(sum + created * 127, 4294967291)
local begin = struct.pack('>c2I4c8c16I6I6', '\193V', check, version, token, 0, created)
-- To join the two hashes and copies the payload once more; to patch the head in place is one more command, and a
-- transaction to replicas. The client knows from where on that is cheaper.
local record = roomy and body or begin .. body
if not redis.call('SET', key, record, option, at, condition) then
  return seconds .. ' ' .. micros .. ' foreign' -- it is not absent, but an empty string
end
if roomy then
  redis.call('SETRANGE', key, '0', begin)
end
return seconds .. ' ' .. micros .. ' stored'
