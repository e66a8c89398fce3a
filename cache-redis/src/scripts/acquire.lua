-- Goes on with an acquire where lease.lua has found something.

if header == '' then
  -- Refused, or it is not absent, but an empty string.
  return refusal or seconds .. ' ' .. micros .. ' foreign'
end
local slot = kind(header)
if slot ~= 'held' then
  return seconds .. ' ' .. micros .. ' ' .. slot
end
local state, floor, held_until, created, schema, generation, soft, hard =
  struct.unpack('>xc1xxxxc8xxxxxxxxxxxxxxxxI6I6I4I4I6I6', header)
local my_schema, my_generation = struct.unpack('>I4I4', body)
local force, has_value = claim == 'f', state == 'V' or state == 'S'
if schema > my_schema then
  return seconds .. ' ' .. micros .. ' newer'
end
if held_until > now and (state == 'Q' or not force) then
  return seconds .. ' ' .. micros .. string.format(' busy %d', held_until - now)
end
if not has_value or force or schema < my_schema or generation ~= my_generation then
  local record = head('L', floor, token, deadline, 0) .. body
  -- A floor stays for as long as it would have.
  if not has_value and outlives(key, keep) then
    redis.call('SET', key, record, 'KEEPTTL')
  else
    redis.call('SET', key, record, 'PX', keep)
  end
elseif now < created + (claim == 's' and soft or hard) then
  return seconds .. ' ' .. micros .. ' hit'
else
  -- The value stays readable while it is refreshed.
  redis.call('SETRANGE', key, '0', head('S', floor, token, deadline, created))
end
return seconds .. ' ' .. micros .. ' granted ' .. floor
end
