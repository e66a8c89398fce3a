-- Begins an unmark: takes a mark out of its record. The rest is an invalidation of the key, whatever was found.
-- KEYS, ARGV: as in invalidate.lua for one key, but that the mark's token c16 stands before ARGV[1].

local mark = string.sub(ARGV[1], 1, 16)
ARGV[1] = string.sub(ARGV[1], 17)
local found = read(KEYS[1])
if #found == 92 and string.sub(found, 1, 2) == '\193Q' then
  local marks, count, last = open_marks(KEYS[1], mark)
  local record = marked(string.sub(found, 7, 14), last, count, string.sub(found, 73, 88), marks)
  -- Without memory this is refused. The caller invalidates the key then, and the mark ends by itself.
  redis.call('SET', KEYS[1], record, 'KEEPTTL')
end
