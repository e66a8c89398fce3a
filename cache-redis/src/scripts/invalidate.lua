-- KEYS: any keys. ARGV: retain ms, then for each key its echo and, if known, the version: 16 or 24 bytes.
-- An empty echo takes the record's own and leaves an absent key absent: so does a clear, which knows no echoes.
-- Answers done with a letter a key: tombstoned, current, foreign or absent.

local stay = now + math.max(tonumber(ARGV[1]), 1)
-- The body of a tombstone up to its echo, and behind it: no schema, no generation, no lives, no CRC.
local BEFORE_ECHO, AFTER_ECHO = string.rep('\0', 30), '\0\0\0\0'

-- With maxmemory reached under noeviction Redis refuses a script's first write if it may grow. Removing still works and is
-- safe: nothing older can be read, and an earlier load's lease is gone with its record. It also counts as that first write,
-- so that what is stored, which is no larger than what was removed, is taken after it: the floor survives, and announced writes do.
local function store_in_place(key, record, expires, occupied)
  local function set(call)
    if expires == math.huge then
      return call('SET', key, record)
    end
    return call('SET', key, record, 'PXAT', string.format('%.0f', expires))
  end
  local stored = set(redis.pcall)
  if not stored.err then
    return
  end
  if not string.find(stored.err, '^%-?OOM') then
    set(redis.call) -- raises it
  end
  redis.call('UNLINK', key)
  if occupied then
    set(redis.pcall)
  end
end

local function invalidate(key, wanted)
  local slot, state, high, low, token, deadline, created, header = look(key)
  if slot == 'foreign' then
    return 'F'
  end
  if slot == 'absent' and wanted == '' then
    return 'A'
  end
  local echo = string.sub(wanted, 1, 16)
  if wanted == '' then
    echo = slot == 'held' and string.sub(header, 73, 88) or NO_TOKEN
  end
  local versioned, to_high, to_low = #wanted == 24, 0, 0
  if versioned then
    to_high, to_low = struct.unpack('>I4I4', wanted, 17)
  end
  if slot == 'held' and versioned and has_value(state) and reaches(high, low, to_high, to_low) then
    return 'C'
  end
  if reaches(high, low, to_high, to_low) then
    to_high, to_low = high, low
  end
  local expires = stay
  if slot == 'held' and not has_value(state) then
    expires = math.max(expiry(key), stay)
    if state == 'Q' and deadline > now then
      local marks = head('Q', to_high, to_low, token, deadline, created) .. redis.call('GETRANGE', key, 42, -1)
      store_in_place(key, marks, expires, true)
      return 'T'
    end
  end
  local tombstone = head('T', to_high, to_low, NO_TOKEN, 0, 0) .. BEFORE_ECHO .. echo .. AFTER_ECHO
  store_in_place(key, tombstone, expires, slot ~= 'absent')
  return 'T'
end

local letters = {}
for i, key in ipairs(KEYS) do
  letters[i] = invalidate(key, ARGV[i + 1])
end
return answer('done', table.concat(letters))
