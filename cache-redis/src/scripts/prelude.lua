-- Stands before each script of this folder, whose verbs are `cache_core::step` in Lua and are tested against it.
-- The byte table is in cache-core/src/record.rs. The head, bytes 0 to 41:
--   format B, state c1, check I4, version I4 I4 (high, low), token c16, deadline I6, created I6
-- A version has 64 bits and a Lua number 53, so versions go in two halves and are compared as pairs.
-- Only head and body's header are ever read, never a payload: the cost does not grow with the value.

local HEADER = 92
local LONGEST_MS = 281474976710655
local CHECK_PRIME = 4294967291
local NO_TOKEN = string.rep('\0', 16)

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- Every script answers with the server's time in microseconds, a word, and what the word needs.
local function answer(word, detail)
  return { now_us, word, detail or '' }
end

-- What stands under a key: 'absent', 'foreign', 'newer' (with its version) or 'held' with all it holds.
local function look(key)
  local header = redis.pcall('GETRANGE', key, 0, HEADER - 1)
  if type(header) == 'table' then
    if not string.find(header.err, 'WRONGTYPE', 1, true) then
      redis.call('GETRANGE', key, 0, 0) -- raises it
    end
    return 'foreign'
  end
  if header == '' then
    return redis.call('EXISTS', key) == 1 and 'foreign' or 'absent', nil, 0, 0
  end
  if #header < 42 then
    return 'foreign'
  end
  local format, state, high, low, token, deadline, created = struct.unpack('>Bc1xxxxI4I4c16I6I6', header)
  if format < 0xC0 or format > 0xCF or not string.find('VLSTQ', state, 1, true) then
    return 'foreign'
  end
  if format ~= 0xC1 or #header < HEADER then
    return 'newer', state, high, low
  end
  return 'held', state, high, low, token, deadline, created, header
end

-- A head with its check. `fmod`, because `%` rounds its quotient; the times are reduced first, so that no sum passes 2^53.
local function head(state, high, low, token, deadline, created)
  local sum = string.byte(state) * 7 + high * 8191 + low * 131071
    + math.fmod(deadline, CHECK_PRIME) * 31 + math.fmod(created, CHECK_PRIME) * 127
  return struct.pack('>Bc1I4I4I4c16I6I6', 0xC1, state, math.fmod(sum, CHECK_PRIME), high, low, token, deadline, created)
end

-- When the key is forgotten; a key without expiry never is. Not by PTTL, which counts from a clock that Redis has read before
-- `now`, and would let an expiry that is carried on wander.
local function expiry(key)
  local at = redis.call('PEXPIRETIME', key)
  return at < 0 and math.huge or at
end

local function has_value(state)
  return state == 'V' or state == 'S'
end

-- Whether version a is at least version b.
local function reaches(a_high, a_low, b_high, b_low)
  return a_high > b_high or (a_high == b_high and a_low >= b_low)
end
