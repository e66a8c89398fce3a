-- Stands before the scripts that look at the clock. The verbs of this folder are `cache_core::step` in Lua and are tested against it.
-- The byte table is in cache-core/src/record.rs. The head, bytes 0 to 41:
--   format c1, state c1, check I4, version c8, token c16, deadline I6, created I6
-- Only head and body's header are ever read, never a payload: the cost does not grow with the value.
--
-- What costs Redis here is each command, each argument, each number that is read or printed, each closure, and each byte of each string that
-- comes about, for its Lua hashes them whole. So arguments go packed, numbers are written as literal strings, the usual case comes first,
-- and functions stand behind it, in files of their own that only those scripts have which need them.

local UNVERSIONED = '\0\0\0\0\0\0\0\0'

-- A script that looks at the clock answers with one string: these two, blanks between, a word, and what the word needs.
local clock = redis.call('TIME')
local seconds, micros = clock[1], clock[2]
local now = seconds * 1000 + micros / 1000
now = now - now % 1
