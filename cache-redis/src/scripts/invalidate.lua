-- INVALIDATE of one key, and the letter it comes to: tombstoned, current, foreign or absent.
--
-- `known` of the key: n nothing, e its echo, v its version too. The tombstone is according to that.
-- Of a key of which nothing is known the record's own echo is taken, and it stays absent if it is: so for a clear.

-- What Redis will not store if it is out of memory, which is known from its refusal.
local function store_refused(refusal, key, tombstone, stay, is_absent, lasting)
  if not string.find(refusal.err, '^%-?OOM') then
    redis.call('SET', key, tombstone, 'PX', stay) -- raises it
  end
  if is_absent then
    return
  end
  -- With maxmemory reached under noeviction Redis refuses a script's first write if it may grow. Removing still works and is
  -- safe: nothing older can be read, and an earlier load's lease is gone with its record. It also counts as that first write,
  -- so that what is stored, which is no larger than what was removed, is taken after it: the floor survives, and announced writes do.
  local at = lasting and redis.call('PEXPIRETIME', key)
  redis.call('UNLINK', key)
  if not lasting then
    redis.pcall('SET', key, tombstone, 'PX', stay)
  elseif at == -1 then
    redis.pcall('SET', key, tombstone)
  else
    redis.pcall('SET', key, tombstone, 'PXAT', string.format('%d', at))
  end
end

local function invalidate(key, known, tombstone, stay)
  local header, is_absent, lasting = read(key), false, false
  if header ~= '' then
    local slot = kind(header)
    if slot == 'foreign' then
      return 'F'
    end
    local held = slot == 'held'
    local state, floor = struct.unpack('>xc1xxxxc8', header)
    local has_value = state == 'V' or state == 'S'
    if known == 'n' and held then
      tombstone = string.sub(tombstone, 1, 72) .. string.sub(header, 73, 88) .. '\0\0\0\0'
    end
    if floor ~= UNVERSIONED and reaches(floor, string.sub(tombstone, 7, 14)) then
      if known == 'v' and held and has_value then
        return 'C'
      end
      tombstone = head('T', floor, string.rep('\0', 16), 0, 0) .. string.sub(tombstone, 43)
    end
    if held and not has_value then
      -- A floor stays for as long as it would have.
      lasting = outlives(key, stay)
      if state == 'Q' then
        look_at_the_clock()
        local token, deadline, created = struct.unpack('>c16I6I6', header, 15)
        if deadline > now then
          -- Announced writes stay. Whole, and not patched in place, so that what holds without memory holds for them.
          tombstone = head('Q', string.sub(tombstone, 7, 14), token, deadline, created) .. redis.call('GETRANGE', key, '42', '-1')
        end
      end
    end
  elseif known == 'n' then
    return 'A'
  else
    is_absent = true
  end
  local stored
  if is_absent then
    stored = redis.pcall('SET', key, tombstone, 'PX', stay, 'NX')
  elseif lasting then
    stored = redis.pcall('SET', key, tombstone, 'KEEPTTL')
  else
    stored = redis.pcall('SET', key, tombstone, 'PX', stay)
  end
  if not stored then
    return 'F' -- it is not absent, but an empty string
  end
  if stored.err then
    store_refused(stored, key, tombstone, stay, is_absent, lasting)
  end
  return 'T'
end
