-- Begins an unmark: takes a mark out of its record. The rest is an invalidation of the key, whatever was found.
-- KEYS: the key. ARGV[1]: the mark's token c16; in decimal, ended by a zero byte, for how many ms a tombstone stays, at least 1; what is known of the key
-- c1 and its tombstone c92, see invalidate.lua.

local mark, stay, known, tombstone = struct.unpack('>c16sc1c92', ARGV[1])
local found = read(KEYS[1])
if #found == 92 and string.sub(found, 1, 2) == '\193Q' then
  look_at_the_clock()
  local marks, count, last = open_marks(KEYS[1], mark)
  local record = marked(string.sub(found, 7, 14), last, count, string.sub(found, 73, 88), marks)
  -- Without memory this is refused. The caller invalidates the key then, and the mark ends by itself.
  redis.call('SET', KEYS[1], record, 'KEEPTTL')
end
local letter = invalidate(KEYS[1], known, tombstone, stay)
