-- KEYS: the meta key. ARGV: the message, and how to tell it: see tell.lua.
-- Answers done, and what stands before the message.

return seconds .. ' ' .. micros .. ' done ' .. tell(KEYS[1], ARGV[1], ARGV[2])
