-- KEYS: the key. ARGV: token, claim, lease ms, retain ms, the body of a lease.
-- Answers granted (the floor), hit, busy (ms left), newer or foreign.

local key, token, claim, body = KEYS[1], ARGV[1], ARGV[2], ARGV[5]
local lease, retain = tonumber(ARGV[3]), tonumber(ARGV[4])
local deadline = math.min(now + lease, LONGEST_MS)

local slot, state, high, low, _, held_until, created, header = look(key)
if slot == 'newer' or slot == 'foreign' then
  return answer(slot)
end

local function grant(keep_until)
  local expires = math.max(keep_until, now + math.max(retain, lease, 1))
  store(key, head('L', high, low, token, deadline, 0) .. body, expires)
  return answer('granted', struct.pack('>I4I4', high, low))
end

if slot == 'absent' then
  return grant(0)
end
local schema, generation, soft, hard = struct.unpack('>I4I4I6I6', header, 43)
local my_schema, my_generation = struct.unpack('>I4I4', body)
local force = claim == 'force'
if schema > my_schema then
  return answer('newer')
end
if held_until > now and (state == 'Q' or not force) then
  return answer('busy', string.format('%.0f', held_until - now))
end
if not has_value(state) then
  return grant(expiry(key))
end
if force or schema < my_schema or generation ~= my_generation then
  return grant(0)
end
if now < created + (claim == 'stale' and soft or hard) then
  return answer('hit')
end
-- The value stays readable while it is refreshed.
redis.call('SETRANGE', key, 0, head('S', high, low, token, deadline, created))
return answer('granted', struct.pack('>I4I4', high, low))
