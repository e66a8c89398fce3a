-- KEYS: any keys, and behind them the meta key if there are further arguments: see letters_told.lua. ARGV: 93 bytes a key, behind them in decimal
-- for how many ms a tombstone stays, at least 1. Of a key: what is known of it
-- c1 (n nothing, e its echo, v its version too), and its tombstone c92 according to that.
-- Of a key of which nothing is known the record's own echo is taken, and it stays absent if it is: so for a clear.
-- Answers done with a letter a key: tombstoned, current, foreign or absent.

local asked, count = ARGV[1], ARGV[2] and #KEYS - 1 or #KEYS
local stay = string.sub(asked, count * 93 + 1)

-- What Redis will not store if it is out of memory, which is known from its refusal.
local function store_refused(refusal, key, tombstone, condition, lasting)
  if not string.find(refusal.err, '^%-?OOM') then
    redis.call('SET', key, tombstone, 'PX', stay, condition) -- raises it
  end
  if condition == 'NX' then
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

local function invalidate(key, known, tombstone)
  local condition, lasting = 'NX', false
  local header = read(key)
  if header ~= '' then
    condition = 'XX'
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
    if known == 'v' and reaches(floor, string.sub(tombstone, 7, 14)) and held and has_value then
      return 'C'
    end
    if floor ~= UNVERSIONED and reaches(floor, string.sub(tombstone, 7, 14)) then
      tombstone = head('T', floor, string.rep('\0', 16), 0, 0) .. string.sub(tombstone, 43)
    end
    if held and not has_value then
      -- A floor stays for as long as it would have.
      lasting = outlives(key, stay)
      local token, deadline, created = struct.unpack('>c16I6I6', header, 15)
      if state == 'Q' and deadline > now then
        -- Announced writes stay. Whole, and not patched in place, so that what holds without memory holds for them.
        tombstone = head('Q', string.sub(tombstone, 7, 14), token, deadline, created) .. redis.call('GETRANGE', key, '42', '-1')
      end
    end
  elseif known == 'n' then
    return 'A'
  end
  local stored
  if lasting then
    stored = redis.pcall('SET', key, tombstone, 'KEEPTTL')
  else
    stored = redis.pcall('SET', key, tombstone, 'PX', stay, condition)
  end
  if not stored then
    return 'F' -- it is not absent, but an empty string
  end
  if stored.err then
    store_refused(stored, key, tombstone, condition, lasting)
  end
  return 'T'
end

local letters
if count == 1 then
  letters = invalidate(KEYS[1], struct.unpack('>c1c92', asked))
else
  letters = {}
  for i = 1, count do
    letters[i] = invalidate(KEYS[i], struct.unpack('>c1c92', asked, i * 93 - 92))
  end
  letters = table.concat(letters)
end
